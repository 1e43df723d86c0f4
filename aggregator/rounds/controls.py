"""What an operator wants of the rounds, obeyed at a round's boundary: a round that runs is always let finish.

The store holds the wish (`aggregator.store.controls`); the rounds process reads it about twice a second, goes by it from its
next round on, and says so in its log and as an event.

Acting on the rounds: what an operator asks for becomes a row in the audit and then the wish in the store.

The commands and the console act through this one place. Nothing here asks who is allowed: that is the caller's.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from aggregator.rounds.client_selection import COHORT_FLOOR, COHORT_MAX
from aggregator.rounds.config import RoundSettings
from aggregator.rounds.interfaces import ProgressLog
from aggregator.rounds.state import FederationState
from aggregator.store import Controls, Database, StoreError
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


_log = logging.getLogger(__name__)

MAX_PERIOD_S = 30 * 24 * 3600.0


def check_cohort(cohort: int, *, n_min: int) -> int:
    """A cohort that an operator may ask for. Raises InputError. ``n_min`` is the settings': where it is below 8, sums are a
    demonstration already, and smaller cohorts are, too.
    """
    least = max(n_min, 2 if n_min < COHORT_FLOOR else COHORT_FLOOR)
    if not least <= cohort <= COHORT_MAX:
        raise InputError(f"a cohort of {cohort} cannot be: choose {least} to {COHORT_MAX} (rounds.n_min is {n_min})")
    return cohort


def check_period(period_s: float) -> float:
    """A period that an operator may ask for. Raises InputError."""
    if not 0.0 <= period_s <= MAX_PERIOD_S:
        raise InputError(f"a period of {period_s:g} s cannot be: choose 0 to {MAX_PERIOD_S:.0f} (30 days)")
    return period_s


class Steering:
    """Reads the wish and says when it has changed. ``settings`` and ``period_s`` are what holds without one."""

    def __init__(self, database: Database, progress: ProgressLog, settings: RoundSettings, *, period_s: float) -> None:
        self._database = database
        self._progress = progress
        self._settings = settings
        self._period_s = period_s
        self._wish = self._read(Controls())
        self._asked_before = self._wish.asked_now
        if self._wish.state != "running":
            self._say(f"rounds.{self._wish.state}", f"rounds are {self._wish.state}, as {self._wish.by} said before", 0)

    @property
    def holds(self) -> bool:
        """Whether no round may begin."""
        return self._wish.state != "running"

    @property
    def asked(self) -> bool:
        """Whether a round is wanted now, whatever the schedule says."""
        return not self.holds and self._wish.asked_now > self._asked_before

    @property
    def period_s(self) -> float:
        """From one round's start to the next one's."""
        return self._period_s if self._wish.period_s is None else self._wish.period_s

    @property
    def settings(self) -> RoundSettings:
        """Of the next round. A wish that the settings no longer allow is left out."""
        if self._wish.cohort is None:
            return self._settings
        try:
            return replace(self._settings, cohort=check_cohort(self._wish.cohort, n_min=self._settings.n_min))
        except InputError:
            return self._settings

    @property
    def readmissions(self) -> Mapping[str, int]:
        """The exclusions that operators lifted: by device, the exclusion's number."""
        return self._wish.readmissions

    def refresh(self, next_round: int) -> None:
        """Read the wish again, and say what is new in it."""
        before, self._wish = self._wish, self._read(self._wish)
        wish = self._wish
        if wish.state != before.state:
            text = {
                "running": f"rounds go on, as {wish.by} said",
                "paused": f"rounds are paused by {wish.by}: none begins before `fedge rounds resume`",
                "stopped": f"rounds are stopped by {wish.by}: none begins before `fedge rounds start`",
            }[wish.state]
            self._say(f"rounds.{wish.state}", text, next_round)
        if wish.asked_now > before.asked_now:
            self._say("rounds.asked", f"{wish.by} asks for a round now", next_round)
        if wish.cohort != before.cohort:
            text = f"from round {next_round} on, cohorts have {self.settings.cohort} devices, as {wish.by} said"
            self._say("rounds.cohort", text, next_round)
        for device in wish.readmissions:
            if wish.readmissions[device] != before.readmissions.get(device):
                self._say(
                    "device.readmitted",
                    f"from round {next_round} on, {device} takes part again, as {wish.by} said",
                    next_round,
                )
        if wish.period_s != before.period_s:
            text = f"from round {next_round} on, a round begins every {self.period_s:g} s, as {wish.by} said"
            self._say("rounds.period", text, next_round)

    def begun(self) -> None:
        """A round begins: what was asked for is done."""
        self._asked_before = self._wish.asked_now

    def _read(self, fallback: Controls) -> Controls:
        try:
            return self._database.controls.get()
        except StoreError as error:
            _log.warning("what operators want cannot be read: %s", error)
            return fallback

    def _say(self, kind: str, text: str, round_number: int) -> None:
        _log.info("%s", text)
        self._progress.event(kind, text, round_number=round_number)
