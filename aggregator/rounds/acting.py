"""Acting on the rounds: what an operator asks for becomes a row in the audit and then the wish in the store.

The commands and the console act through this one place. Nothing here asks who is allowed: that is the caller's.
"""

from dataclasses import dataclass, replace
from typing import Literal

from aggregator.rounds.state import FederationState
from aggregator.rounds.steering import check_cohort, check_period
from aggregator.store import Controls, Database
from fedge.errors import InputError

Act = Literal["start", "pause", "resume", "stop", "set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, in which role."""

    name: str
    role: str


def act(
    database: Database,
    action: Act,
    *,
    by: Actor,
    at: float,
    n_min: int,
    cohort: int | None = None,
    period_s: float | None = None,
    reason: str = "",
) -> Controls:
    """Do it and return what stands now. Raises InputError for what cannot be: see each action in `fedge rounds --help`.

    ``cohort`` and ``period_s`` are for ``set``; ``n_min`` is the settings', by which cohorts are judged.
    """
    if action == "set" and cohort is None and period_s is None:
        raise InputError("rounds set changes nothing: give --cohort, --period, or both")
    if cohort is not None:
        check_cohort(cohort, n_min=n_min)
    if period_s is not None:
        check_period(period_s)

    def change(stands: Controls) -> Controls:
        if action == "resume" and stands.state == "stopped":
            raise InputError("rounds are stopped, not paused: fedge rounds start begins them again")
        changed = replace(stands, by=by.name, at=at)
        if action == "start":
            return replace(changed, state="running", asked_now=stands.asked_now + 1)
        if action == "pause":
            return replace(changed, state="paused")
        if action == "stop":
            return replace(changed, state="stopped")
        if action == "resume":
            return replace(changed, state="running")
        return replace(
            changed,
            cohort=stands.cohort if cohort is None else cohort,
            period_s=stands.period_s if period_s is None else period_s,
        )

    wanted = {name: value for name, value in (("cohort", cohort), ("period_s", period_s)) if value is not None}
    who = {"actor": by.name, "role": by.role, "action": f"rounds.{action}", "target": "rounds", "reason": reason}
    with database.audit.recorded(lambda: at, detail=wanted, **who):
        return database.controls.change(change)


def readmit(database: Database, device: str, *, by: Actor, at: float, reason: str = "") -> Controls:
    """Let a device that is excluded as a suspect take part again. Raises InputError where it is not excluded."""
    stored = database.load_state()
    exclusions = () if stored is None else FederationState.from_bytes(stored).suspicion.exclusions
    exclusion = next((one for one in exclusions if one.device == device), None)
    if exclusion is None:
        names = ", ".join(one.device for one in exclusions) or "none is"
        raise InputError(f"{device} is not excluded from rounds (excluded: {names}); see fedge rounds suspects")
    lifted = exclusion.times

    def change(stands: Controls) -> Controls:
        return replace(stands, readmissions={**stands.readmissions, device: lifted}, by=by.name, at=at)

    who = {"actor": by.name, "role": by.role, "action": "rounds.readmit", "target": device, "reason": reason}
    with database.audit.recorded(lambda: at, detail={"posterior": exclusion.posterior, "until": exclusion.until}, **who):
        return database.controls.change(change)
