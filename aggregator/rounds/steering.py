"""What an operator wants of the rounds, obeyed at a round's boundary: a round that runs is always let finish.

The store holds the wish (`aggregator.store.controls`); the rounds process reads it about twice a second, goes by it from its
next round on, and says so in its log and as an event.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

from aggregator.rounds.cohort import COHORT_FLOOR, COHORT_MAX
from aggregator.rounds.interfaces import ProgressLog
from aggregator.rounds.round_settings import RoundSettings
from aggregator.store import Controls, Database, StoreError
from fedge.errors import InputError

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
