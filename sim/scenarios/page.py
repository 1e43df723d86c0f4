"""`scenarios.html`: one self-contained page with a table and a chart a scenario, in the report's own style and drawing."""

from collections.abc import Sequence

from sim.report.render import environment
from sim.scenarios.base import Given, Scenario, cell


def render(given: Given, scenarios: Sequence[Scenario]) -> str:
    """The page; it runs no script and loads nothing."""
    page = environment().get_template("scenarios.html")
    return page.render(record=given.record, given=given, scenarios=scenarios, text=cell)
