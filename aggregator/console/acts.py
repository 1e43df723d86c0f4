"""What an operator can do on the console, by a page's form or by the API: each act goes into the audit before it is done.

Who asks, and whether it is meant, is settled before: see ``aggregator.console.app`` and ``shell.confirming``.
"""

from typing import get_args

from starlette.exceptions import HTTPException

from aggregator.console.auth.viewer import Viewer
from aggregator.console.shell.confirming import audited
from aggregator.console.shell.context import Console
from aggregator.operator import Operator
from aggregator.rounds.acting import Act, Actor, act
from aggregator.store import Controls
from fedge.identity import Invitation

ROLL_BACK = "roll back"
INVITE = "invite"
"""What a confirmation repeats where an act has no target with a name."""


def revoke(console: Console, by: Viewer, device: str, *, reason: str) -> str:
    """Shut a device out for good. Returns what was done, as all of these do, for people."""
    operator = _live(console)
    with audited(console, by, "device.revoke", target=device, reason=reason):
        operator.revoke(device, reason=reason)
    return f"{device} is revoked: its next call is refused."


def invite(console: Console, by: Viewer, *, reason: str) -> Invitation:
    """A join string for one device; the store holds its hash alone."""
    operator = _live(console)
    with audited(console, by, "device.invite", target="", reason=reason):
        return operator.invite()


def promote(console: Console, by: Viewer, release: str, *, reason: str) -> str:
    """Make a release what all devices run."""
    operator = _live(console)
    with audited(console, by, "release.promote", target=release, reason=reason):
        return operator.promote(release, reason=reason, by=by.name)


def roll_back(console: Console, by: Viewer, *, reason: str) -> str:
    """Take back the release on the canary, or else the active one."""
    operator = _live(console)
    with audited(console, by, "release.rollback", target="", reason=reason):
        return operator.roll_back(reason=reason, by=by.name)


def steer(console: Console, by: Viewer, action: str, *, cohort: int | None, period_s: float | None, reason: str) -> Controls:
    """Start, pause, resume or stop the rounds, or set their cohort and period. Returns what is wanted now."""
    return act(
        console.database,
        steering(console, action),
        by=Actor(name=by.name, role=by.role.value),
        at=console.clock(),
        n_min=console.n_min or 0,
        cohort=cohort,
        period_s=period_s,
        reason=reason,
    )


def steering(console: Console, action: str) -> Act:
    """The act of that name on a live fleet. Raises HTTPException."""
    wanted = next((one for one in get_args(Act) if one == action), None)
    if wanted is None:
        raise HTTPException(404, f"rounds can be: {', '.join(get_args(Act))}")
    _live(console)
    return wanted  # type: ignore[no-any-return]  # one of the literals


def _live(console: Console) -> Operator:
    if console.operator is None:
        raise HTTPException(409, "this is a recorded run: there is nothing to act on")
    return console.operator
