"""What an operator does on the console: each a form that repeats the target's name and says why, and a row in the audit.

Behind every route here stand a login as operator and the form's token: see ``aggregator.console.app``.
"""

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from aggregator.console import acts
from aggregator.console.auth.viewer import TheOperator
from aggregator.console.shell.confirming import confirmed
from aggregator.console.shell.context import TheConsole
from aggregator.console.shell.forms import Form, TheForm
from aggregator.console.shell.templating import page

router = APIRouter(include_in_schema=False)


@router.post("/devices/{device}/revoke")
def revoke(request: Request, console: TheConsole, operator: TheOperator, form: TheForm, device: str) -> Response:
    """Shut a device out for good."""
    said = acts.revoke(console, operator, device, reason=confirmed(form, target=device))
    return _done(request, said, back="/devices")


@router.post("/devices/invite")
def invite(request: Request, console: TheConsole, operator: TheOperator, form: TheForm) -> Response:
    """Make a join string. It is shown once and kept nowhere."""
    made = acts.invite(console, operator, reason=confirmed(form, target=acts.INVITE))
    return _done(
        request,
        "Whoever uses this string first becomes a member. It is good for 15 minutes and is not shown again.",
        back="/devices",
        secret=made.to_text(),
    )


@router.post("/releases/{release}/promote")
def promote(request: Request, console: TheConsole, operator: TheOperator, form: TheForm, release: str) -> Response:
    """Make a release what all devices run."""
    said = acts.promote(console, operator, release, reason=confirmed(form, target=release[:12]))
    return _done(request, said, back="/releases")


@router.post("/releases/rollback")
def roll_back(request: Request, console: TheConsole, operator: TheOperator, form: TheForm) -> Response:
    """Take back the release on the canary, or else the active one."""
    said = acts.roll_back(console, operator, reason=confirmed(form, target=acts.ROLL_BACK))
    return _done(request, said, back="/releases")


@router.post("/rounds/{action}")
def rounds(request: Request, console: TheConsole, operator: TheOperator, form: TheForm, action: str) -> Response:
    """Start, pause, resume or stop the rounds, or set their cohort and period."""
    wanted = acts.steering(console, action)
    reason = confirmed(form, target=wanted)
    cohort, period_s = _whole(form, "cohort"), _number(form, "period_s")
    now = acts.steer(console, operator, wanted, cohort=cohort, period_s=period_s, reason=reason)
    return _done(request, f"Rounds are wanted {now.state}; the rounds process follows at its next boundary.", back="/rounds")


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
