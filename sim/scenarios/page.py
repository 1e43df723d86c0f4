"""`scenarios.html`: one self-contained page with a table and a chart a scenario, in the report's own style and drawing."""

from collections.abc import Sequence

from sim.record import RunRecord
from sim.report.render import environment
from sim.scenarios.base import Scenario, cell


def render(record: RunRecord, scenarios: Sequence[Scenario]) -> str:
    """The page; it runs no script and loads nothing."""
    page = environment().get_template("scenarios.html")
    return page.render(record=record, scenarios=scenarios, text=cell)
