"""Work that an agent does beside answering: one thread a loop, each step at its own pace, with jittered back-off on failure.

A loop never ends by an error: a purposeful one (FedgeError) is a state to show, anything else is logged with its traceback,
and both wait longer each time. It ends when it is stopped, between two steps.
"""

import errno
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

from fedge.errors import FedgeError

_log = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Pace:
    """``period_s`` between two steps that went well; after failures a random wait up to ``first_wait_s``, doubled each time
    up to ``max_wait_s``."""

    period_s: float
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0

    def wait_s(self, failures: int, rng: random.Random) -> float:
        """The time until the next step. Half of each wait is random, so that a fleet does not come back all at once."""
        if failures == 0:
            return self.period_s * rng.uniform(0.9, 1.1)
        bound = min(self.max_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 32))
        return bound * rng.uniform(0.5, 1.0)


class Loop:
    """One repeated step in a thread of its own. ``wake`` makes the next step come at once."""

    def __init__(self, name: str, step: Callable[[], object], pace: Pace, *, rng: random.Random | None = None) -> None:
        self.name = name
        self.last_error: str | None = None
        self._step = step
        self._pace = pace
        self._rng = rng or random.Random()  # noqa: S311 - spreads steps in time, decides nothing
        self._stopping = False
        self._due = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin with a first step at once."""
        self._thread.start()

    def wake(self) -> None:
        """Take the next step now."""
        self._due.set()

    def stop(self) -> None:
        """Take no further step; returns at once."""
        self._stopping = True
        self._due.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the step at hand."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stopping:
            self._due.clear()
            failures = 0 if self._succeeded() else failures + 1
            if self._stopping:
                return
            self._due.wait(self._pace.wait_s(failures, self._rng))

    def _succeeded(self) -> bool:
        try:
            self._step()
        except FedgeError as error:
            if self.last_error != str(error):
                _log.warning("%s: %s", self.name, error)
            self.last_error = str(error)
        except OSError as error:
            if error.errno not in _FULL:
                _log.exception("%s failed", self.name)
                self.last_error = f"{type(error).__name__}, see the log"
            else:
                said = f"the disk is full ({error}): free some space"
                if self.last_error != said:
                    _log.warning("%s: %s", self.name, said)
                self.last_error = said
        except Exception as error:
            _log.exception("%s failed", self.name)
            self.last_error = f"{type(error).__name__}, see the log"
        else:
            if self.last_error is not None:
                _log.info("%s: well again", self.name)
            self.last_error = None
        return self.last_error is None
