"""The Flower `ServerApp`: rounds, one after the other, until the plan is done.

When a round begins is the pacer's business: a fleet waits for the hour, the simulator lets a day of queries pass. After
each round the new state is handed to `keep`, which must not return before it is safe.
"""

from collections.abc import Callable
from typing import Protocol

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from aggregator.rounds.report import RoundReport
from aggregator.rounds.round import RoundRunner
from aggregator.rounds.state import FederationState
from fedge import logs


class Pacer(Protocol):
    """Decides when rounds begin and when they end."""

    def wait(self, round_number: int) -> bool:
        """Return when round ``round_number`` should begin; False ends the run."""

    def keep(self, state: FederationState, report: RoundReport) -> None:
        """A round is over: store its state."""


def build_server_app(runner: Callable[[Grid], RoundRunner], state: FederationState, pacer: Pacer) -> ServerApp:
    """A `ServerApp` that continues from ``state``. ``runner`` makes each round's anew, since settings may change between."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        current = state
        while pacer.wait(current.round_number + 1):
            with logs.context(round=current.round_number + 1):
                current, report = runner(grid).run(current)
                pacer.keep(current, report)

    return app
