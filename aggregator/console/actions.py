"""Acting by JSON, for scripts with an operator's token: the acts of the pages, confirmed and audited the same way.

What an operator does on the console: each a form that repeats the target's name and says why, and a row in the audit.

Behind every route here stand a login as operator and the form's token: see ``aggregator.console.app``.

What an operator can do on the console, by a page's form or by the API: each act goes into the audit before it is done.

Who asks, and whether it is meant, is settled before: see ``aggregator.console.app`` and ``shell.confirming``.

Acting, and the record of it: a form repeats the name of what it changes and says why, and both go into the audit first.

In a page: ``{% call confirm(...) %}`` of ``components.html``. In a route that takes ``TheForm`` and ``TheOperator``::

    reason = confirmed(form, target=device_id)
    with audited(console, operator, "device.revoke", target=device_id, reason=reason):
        revoke(...)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from aggregator.admin import Operator
from aggregator.console.auth.dependencies import TheOperator, Viewer
from aggregator.console.context import Console, TheConsole
from aggregator.console.forms import Form, TheForm
from aggregator.console.templating import page
from aggregator.rounds.controls import Act, Actor, act
from aggregator.store import Controls
from fedge.identity import Invitation

pages = APIRouter(include_in_schema=False)


@pages.post("/devices/{device}/revoke")
def revoke_form(request: Request, console: TheConsole, operator: TheOperator, form: TheForm, device: str) -> Response:
    """Shut a device out for good."""
    said = revoke(console, operator, device, reason=confirmed(form, target=device))
    return _done(request, said, back="/devices")


@pages.post("/devices/invite")
def invite_form(request: Request, console: TheConsole, operator: TheOperator, form: TheForm) -> Response:
    """Make a join string. It is shown once and kept nowhere."""
    made = invite(console, operator, reason=confirmed(form, target=INVITE))
    return _done(
        request,
        "Whoever uses this string first becomes a member. It is good for 15 minutes and is not shown again.",
        back="/devices",
        secret=made.to_text(),
    )


@pages.post("/releases/{release}/promote")
def promote_form(request: Request, console: TheConsole, operator: TheOperator, form: TheForm, release: str) -> Response:
    """Make a release what all devices run."""
    said = promote(console, operator, release, reason=confirmed(form, target=release[:12]))
    return _done(request, said, back="/releases")


@pages.post("/releases/rollback")
def roll_back_form(request: Request, console: TheConsole, operator: TheOperator, form: TheForm) -> Response:
    """Take back the release on the canary, or else the active one."""
    said = roll_back(console, operator, reason=confirmed(form, target=ROLL_BACK))
    return _done(request, said, back="/releases")


@pages.post("/rounds/{action}")
def control_rounds_form(
    request: Request, console: TheConsole, operator: TheOperator, form: TheForm, action: str
) -> Response:
    """Start, pause, resume or stop the rounds, or set their cohort and period."""
    wanted = parse_action(console, action)
    reason = confirmed(form, target=wanted)
    cohort, period_s = _whole(form, "cohort"), _number(form, "period_s")
    now = control_rounds(console, operator, wanted, cohort=cohort, period_s=period_s, reason=reason)
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


def control_rounds(
    console: Console, by: Viewer, action: str, *, cohort: int | None, period_s: float | None, reason: str
) -> Controls:
    """Start, pause, resume or stop the rounds, or set their cohort and period. Returns what is wanted now."""
    return act(
        console.database,
        parse_action(console, action),
        by=Actor(name=by.name, role=by.role.value),
        at=console.clock(),
        n_min=console.n_min or 0,
        cohort=cohort,
        period_s=period_s,
        reason=reason,
    )


def parse_action(console: Console, action: str) -> Act:
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


MAX_REASON = 500


def confirmed(form: Form, *, target: str) -> str:
    """The reason that was given, where the field ``confirm`` repeats ``target``. Raises HTTPException."""
    if form.get("confirm", "").strip() != target:
        raise HTTPException(422, f"not confirmed: the field confirm must say {target}")
    reason = " ".join(form.get("reason", "").split())
    if not reason:
        raise HTTPException(422, "a reason is missing: it goes into the audit")
    if len(reason) > MAX_REASON:
        raise HTTPException(422, f"the reason has {len(reason)} characters, more than the {MAX_REASON} allowed")
    return reason


@contextmanager
def audited(
    console: Console,
    operator: Viewer,
    action: str,
    *,
    target: str,
    reason: str,
    detail: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Writes down who does what to whom and why, before it is done: see `aggregator.store.audit`. ``detail``: JSON."""
    with console.database.audit.recorded(
        console.clock,
        actor=operator.name,
        role=operator.role.value,
        action=action,
        target=target,
        reason=reason,
        detail=detail,
    ):
        yield


api = APIRouter(prefix="/api/v1")


class Confirmed(BaseModel):
    """That it is meant, and why."""

    model_config = ConfigDict(extra="forbid")
    confirm: Annotated[str, Field(description="Repeats what is acted on: each operation says what.")]
    reason: Annotated[str, Field(description="Goes into the audit: one line.")]

    def because(self, target: str) -> str:
        """The reason, where ``confirm`` repeats ``target``. Raises HTTPException."""
        return confirmed({"confirm": self.confirm, "reason": self.reason}, target=target)


class Steered(Confirmed):
    """With what ``set`` changes."""

    cohort: Annotated[int | None, Field(description="Devices in a cohort.")] = None
    period_s: Annotated[float | None, Field(description="Seconds from one round's start to the next one's.")] = None


class Done(BaseModel):
    """What was done, in words."""

    done: str


class Invited(BaseModel):
    """The join string, which is shown once."""

    join: str
    fingerprint: str


class Wanted(BaseModel):
    """What is wanted of the rounds now; null: as the settings say."""

    state: Literal["running", "paused", "stopped"]
    cohort: int | None
    period_s: float | None


@api.post("/devices/{device}/revoke")
def revoke_json(console: TheConsole, operator: TheOperator, device: str, asked: Confirmed) -> Done:
    """Shut a device out for good. ``confirm``: its name."""
    return Done(done=revoke(console, operator, device, reason=asked.because(device)))


@api.post("/devices/invite")
def invite_json(console: TheConsole, operator: TheOperator, asked: Confirmed) -> Invited:
    """A join string for one device, good for 15 minutes. ``confirm``: "invite"."""
    made = invite(console, operator, reason=asked.because(INVITE))
    return Invited(join=made.to_text(), fingerprint=made.fingerprint)


@api.post("/releases/{release}/promote")
def promote_json(console: TheConsole, operator: TheOperator, release: str, asked: Confirmed) -> Done:
    """Make a release what all devices run. ``confirm``: the first 12 digits of its id."""
    return Done(done=promote(console, operator, release, reason=asked.because(release[:12])))


@api.post("/releases/rollback")
def roll_back_json(console: TheConsole, operator: TheOperator, asked: Confirmed) -> Done:
    """Take back the release on the canary, or else the active one. ``confirm``: "roll back"."""
    return Done(done=roll_back(console, operator, reason=asked.because(ROLL_BACK)))


@api.post("/rounds/{action}")
def control_rounds_json(console: TheConsole, operator: TheOperator, action: str, asked: Steered) -> Wanted:
    """``start``, ``pause``, ``resume`` or ``stop`` the rounds, or ``set`` their cohort and period. ``confirm``: the act."""
    wanted = parse_action(console, action)
    reason = asked.because(wanted)
    now = control_rounds(console, operator, wanted, cohort=asked.cohort, period_s=asked.period_s, reason=reason)
    return Wanted(state=now.state, cohort=now.cohort, period_s=now.period_s)
