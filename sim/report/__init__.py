"""The report of a simulated run: one HTML file that needs nothing else, made from its summary."""

from sim.report.render import render

__all__ = ["render"]
