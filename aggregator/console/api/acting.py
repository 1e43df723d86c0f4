"""Acting by JSON, for scripts with an operator's token: the acts of the pages, confirmed and audited the same way."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from aggregator.console import acts
from aggregator.console.auth.viewer import TheOperator
from aggregator.console.shell.confirming import confirmed
from aggregator.console.shell.context import TheConsole

router = APIRouter(prefix="/api/v1")


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


@router.post("/devices/{device}/revoke")
def revoke(console: TheConsole, operator: TheOperator, device: str, asked: Confirmed) -> Done:
    """Shut a device out for good. ``confirm``: its name."""
    return Done(done=acts.revoke(console, operator, device, reason=asked.because(device)))


@router.post("/devices/invite")
def invite(console: TheConsole, operator: TheOperator, asked: Confirmed) -> Invited:
    """A join string for one device, good for 15 minutes. ``confirm``: "invite"."""
    made = acts.invite(console, operator, reason=asked.because(acts.INVITE))
    return Invited(join=made.to_text(), fingerprint=made.fingerprint)


@router.post("/releases/{release}/promote")
def promote(console: TheConsole, operator: TheOperator, release: str, asked: Confirmed) -> Done:
    """Make a release what all devices run. ``confirm``: the first 12 digits of its id."""
    return Done(done=acts.promote(console, operator, release, reason=asked.because(release[:12])))


@router.post("/releases/rollback")
def roll_back(console: TheConsole, operator: TheOperator, asked: Confirmed) -> Done:
    """Take back the release on the canary, or else the active one. ``confirm``: "roll back"."""
    return Done(done=acts.roll_back(console, operator, reason=asked.because(acts.ROLL_BACK)))


@router.post("/rounds/{action}")
def rounds(console: TheConsole, operator: TheOperator, action: str, asked: Steered) -> Wanted:
    """``start``, ``pause``, ``resume`` or ``stop`` the rounds, or ``set`` their cohort and period. ``confirm``: the act."""
    wanted = acts.steering(console, action)
    reason = asked.because(wanted)
    now = acts.steer(console, operator, wanted, cohort=asked.cohort, period_s=asked.period_s, reason=reason)
    return Wanted(state=now.state, cohort=now.cohort, period_s=now.period_s)
