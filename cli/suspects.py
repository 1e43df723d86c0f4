"""`fedge rounds suspects`: the devices that are excluded because sums were spoiled, and the evidence that is still open."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from cli.console import PlainConsole

if TYPE_CHECKING:
    from aggregator.store import Database

LISTED = 10


def show_suspects(database: "Database", *, json_output: bool) -> None:
    """Print both lists, as tables or as one JSON document."""
    from aggregator.rounds.state import FederationState
    from aggregator.rounds.suspicion import Suspicion, SuspicionPolicy

    stored = database.load_state()
    suspicion = Suspicion() if stored is None else FederationState.from_bytes(stored).suspicion
    posterior = sorted(suspicion.posterior(SuspicionPolicy()).items(), key=lambda one: (-one[1], one[0]))
    open_tests = suspicion.unexplained()
    if json_output:
        document = {
            "excluded": [asdict(exclusion) for exclusion in suspicion.exclusions],
            "suspected": [{"device": device, "posterior": chance} for device, chance in posterior],
            "unexplained": [
                {"period": test.period, "purpose": test.purpose, "verdict": test.verdict.value, "devices": len(test.members)}
                for test in open_tests
            ],
        }
        print(json.dumps(document))
        return
    console = PlainConsole()
    if not suspicion.exclusions and not open_tests:
        console.print("No device is excluded, and no spoiled sum is unexplained.")
        return
    if suspicion.exclusions:
        table = Table("excluded device", "probability", "since period", "until period", box=None, pad_edge=False)
        for exclusion in suspicion.exclusions:
            table.add_row(exclusion.device, f"{exclusion.posterior:.1%}", str(exclusion.since), str(exclusion.until))
        console.print(table)
        console.print(
            "Inspect these devices. Revoke one that is hostile: fedge devices revoke DEVICE. "
            "Let one take part again: fedge rounds readmit DEVICE.",
            soft_wrap=True,
        )
    if open_tests:
        table = Table("under suspicion", "probability", box=None, pad_edge=False)
        for device, chance in posterior[:LISTED]:
            table.add_row(device, f"{chance:.1%}")
        console.print(table)
        console.print(
            f"{len(open_tests)} spoiled sum{'s are' if len(open_tests) > 1 else ' is'} unexplained, the last in round "
            f"{open_tests[-1].period}. Cohorts are redrawn in each period until the device is found.",
            soft_wrap=True,
        )
