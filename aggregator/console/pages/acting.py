"""What an operator does on the console: each a form that repeats the target's name and says why, and a row in the audit.

Behind every route here stand a login as operator and the form's token: see ``aggregator.console.app``.
"""

from typing import get_args

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from aggregator.console.auth.viewer import TheOperator
from aggregator.console.shell.confirming import audited, confirmed
from aggregator.console.shell.context import Console, TheConsole
from aggregator.console.shell.forms import Form, TheForm
from aggregator.console.shell.templating import page
from aggregator.operator import Operator
from aggregator.rounds.acting import Act, Actor, act

router = APIRouter(include_in_schema=False)


@router.post("/devices/{device}/revoke")
def revoke(request: Request, console: TheConsole, operator: TheOperator, form: TheForm, device: str) -> Response:
    """Shut a device out for good."""
    reason = confirmed(form, target=device)
    with audited(console, operator, "device.revoke", target=device, reason=reason):
        _live(console).revoke(device, reason=reason)
    return _done(request, f"{device} is revoked: its next call is refused.", back="/devices")


@router.post("/devices/invite")
def invite(request: Request, console: TheConsole, operator: TheOperator, form: TheForm) -> Response:
    """Make a join string. It is shown once and kept nowhere: the store holds its hash."""
    reason = confirmed(form, target="invite")
    with audited(console, operator, "device.invite", target="", reason=reason):
        made = _live(console).invite()
    return _done(
        request,
        "Whoever uses this string first becomes a member. It is good for 15 minutes and is not shown again.",
        back="/devices",
        secret=made.to_text(),
    )


@router.post("/releases/{release}/promote")
def promote(request: Request, console: TheConsole, operator: TheOperator, form: TheForm, release: str) -> Response:
    """Make a release what all devices run."""
    reason = confirmed(form, target=release[:12])
    with audited(console, operator, "release.promote", target=release, reason=reason):
        said = _live(console).promote(release, reason=reason, by=operator.name)
    return _done(request, said, back="/releases")


@router.post("/releases/rollback")
def roll_back(request: Request, console: TheConsole, operator: TheOperator, form: TheForm) -> Response:
    """Take back the release on the canary, or else the active one."""
    reason = confirmed(form, target="roll back")
    with audited(console, operator, "release.rollback", target="", reason=reason):
        said = _live(console).roll_back(reason=reason, by=operator.name)
    return _done(request, said, back="/releases")


@router.post("/rounds/{action}")
def rounds(request: Request, console: TheConsole, operator: TheOperator, form: TheForm, action: str) -> Response:
    """Start, pause, resume or stop the rounds, or set their cohort and period."""
    wanted = next((one for one in get_args(Act) if one == action), None)
    if wanted is None:
        raise HTTPException(404, f"rounds can be: {', '.join(get_args(Act))}")
    reason = confirmed(form, target=action)
    _live(console)
    now = act(
        console.database,
        wanted,
        by=Actor(name=operator.name, role=operator.role.value),
        at=console.clock(),
        n_min=console.n_min or 0,
        cohort=_whole(form, "cohort"),
        period_s=_number(form, "period_s"),
        reason=reason,
    )
    return _done(request, f"Rounds are wanted {now.state}; the rounds process follows at its next boundary.", back="/rounds")


def _live(console: Console) -> Operator:
    if console.operator is None:
        raise HTTPException(409, "this is a recorded run: there is nothing to act on")
    return console.operator


def _whole(form: Form, name: str) -> int | None:
    found = _number(form, name)
    if found is not None and found != int(found):
        raise HTTPException(422, f"{name} is {found:g}: give a whole number")
    return None if found is None else int(found)


def _number(form: Form, name: str) -> float | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        raise HTTPException(422, f"{name} is {text[:40]!r}: give a number") from None
    if not abs(found) < 1e9:  # neither infinite nor "not a number"
        raise HTTPException(422, f"{name} is {text[:40]!r}: give a number")
    return found


def _done(request: Request, said: str, *, back: str, secret: str = "") -> Response:
    return page(request, "done.html", said=said, back=back, secret=secret)
