"""`fedge rounds start|pause|resume|stop|set`: act on a server's rounds; each act is confirmed and goes into the audit."""

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.acting import ROLE, acting
from cli.homes import ServerHomeOption

if TYPE_CHECKING:
    from pathlib import Path

    from aggregator.rounds.controls import Act
    from aggregator.store import Controls

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the audit.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def start(
    home: ServerHomeOption = None, reason: ReasonOption = "", yes: YesOption = False, json_output: JsonOption = False
) -> None:
    """Begin a round now, whatever the schedule says; what was paused or stopped goes on."""
    _act("start", "Begin a round now?", home, reason=reason, yes=yes, json_output=json_output)


def pause(
    home: ServerHomeOption = None, reason: ReasonOption = "", yes: YesOption = False, json_output: JsonOption = False
) -> None:
    """Let the running round finish and begin none until `fedge rounds resume`."""
    _act("pause", "Let no round begin until fedge rounds resume?", home, reason=reason, yes=yes, json_output=json_output)


def resume(
    home: ServerHomeOption = None, reason: ReasonOption = "", yes: YesOption = False, json_output: JsonOption = False
) -> None:
    """Go on with rounds that were paused, by their schedule."""
    _act("resume", "Let rounds begin by their schedule again?", home, reason=reason, yes=yes, json_output=json_output)


def stop(
    home: ServerHomeOption = None, reason: ReasonOption = "", yes: YesOption = False, json_output: JsonOption = False
) -> None:
    """Let the running round finish and begin none until `fedge rounds start`; the process stays."""
    _act("stop", "Let no round begin until fedge rounds start?", home, reason=reason, yes=yes, json_output=json_output)


def change(
    cohort: Annotated[int | None, typer.Option(help="Devices in a cohort, from the next round on.")] = None,
    period: Annotated[float | None, typer.Option(help="Seconds from one round's start to the next one's.")] = None,
    home: ServerHomeOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
    json_output: JsonOption = False,
) -> None:
    """Change the size of cohorts or the schedule, from the next round on; server.toml stays as it is."""
    asked = [f"cohorts of {cohort}"] * (cohort is not None) + [f"a round every {period} s"] * (period is not None)
    question = f"From the next round on: {' and '.join(asked)}?"
    _act("set", question, home, reason=reason, yes=yes, json_output=json_output, cohort=cohort, period_s=period)


def readmit(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its name, as fedge rounds suspects shows it.")],
    home: ServerHomeOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
    json_output: JsonOption = False,
) -> None:
    """Let a device that is excluded as a suspect take part again, from the next round on."""
    from aggregator.rounds.controls import Actor
    from aggregator.rounds.controls import readmit as lift

    with acting(home) as user:
        if not yes and not typer.confirm(f"Let {device} take part in rounds again?", err=True):
            raise typer.Exit(1)
        lift(user.database, device, by=Actor(name=user.name, role=ROLE), at=time.time(), reason=reason[:200])
    print(json.dumps({"readmitted": device}) if json_output else f"{device} takes part again from the next round on.")


def _act(
    action: "Act",
    question: str,
    home: "Path | None",
    *,
    reason: str,
    yes: bool,
    json_output: bool,
    cohort: int | None = None,
    period_s: float | None = None,
) -> None:
    from aggregator.rounds.controls import Actor, act

    with acting(home) as user:
        settings = user.operator.home.settings()
        if not yes and not typer.confirm(question, err=True):
            raise typer.Exit(1)
        stands = act(
            user.database,
            action,
            by=Actor(name=user.name, role=ROLE),
            at=time.time(),
            n_min=settings.rounds.n_min,
            cohort=cohort,
            period_s=period_s,
            reason=reason[:200],
        )
    print(json.dumps(_document(stands)) if json_output else _shown(stands, settings.rounds.cohort, settings.rounds.period_s))


def _document(stands: "Controls") -> dict[str, object]:
    return {
        "state": stands.state,
        "cohort": stands.cohort,
        "period_s": stands.period_s,
        "asked_now": stands.asked_now,
        "by": stands.by,
        "at": stands.at,
    }


def _shown(stands: "Controls", cohort: int, period_s: float) -> str:
    every = period_s if stands.period_s is None else stands.period_s
    return (
        f"Rounds: {stands.state}; cohorts of {stands.cohort or cohort} devices, one round every {every:g} s. The rounds "
        "process goes by it within seconds; a round that runs is let finish."
    )
