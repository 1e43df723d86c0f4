"""What a round asks of those around it: where releases are published, who remembers which attempts were begun, and who is
told how it goes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from aggregator.releases.registry import OnCanary
from fedge.release import CertificateDocument, Release


class Registry(Protocol):
    """Where releases and certificates are published (`aggregator.releases.registry`)."""

    def publish(self, release: Release, *, at: float) -> str:
        """Make a release fetchable; devices do not answer with it yet."""

    def add_certificate(self, document: CertificateDocument, *, at: float) -> None:
        """Store the certificate of a published release; the newest counts."""

    def active(self) -> str | None:
        """What devices should run."""

    def reject(self, release_id: str, *, at: float, reason: str) -> None:
        """Give up a published release that was never promoted."""

    def promote(self, release_id: str, *, at: float, reason: str) -> None:
        """Make a published release what devices should run."""

    def put_on_canary(self, release_id: str, *, share: float, at: float, reason: str) -> None:
        """Let a share of the devices run a published release."""

    def canary(self) -> OnCanary | None:
        """The release that a share of the devices runs, if any."""

    def release(self, release_id: str) -> Release:
        """A published release."""


class AttemptLog(Protocol):
    """Remembers over a crash which attempts of the round at hand devices have already seen.

    A device accepts no pair (round, attempt) twice, so a round that is begun again goes on counting.
    """

    def last(self, round_number: int) -> int:
        """The last attempt of this round that was begun; 0 before the first."""

    def begin(self, round_number: int, attempt: int) -> None:
        """An attempt is about to begin: must not return before that is safe."""


class NoAttempts:
    """For runs whose every round begins afresh."""

    def last(self, round_number: int) -> int:
        """None was begun."""
        return 0

    def begin(self, round_number: int, attempt: int) -> None:
        """Nothing to remember."""


Phase = Literal["select", "train", "keys", "shares", "masked_upload", "consistency", "unmask", "evaluate", "publish"]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""What an attempt goes through, in this order. Devices train and make their one-time keys at the check-in (`train`); `keys`
is the aggregator's check of them, whose outcome is the roster."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which attempt at which session of which round."""

    round_number: int
    attempt: int
    purpose: str


class ProgressLog(Protocol):
    """Is told how the round at hand goes, while it goes. Must be quick, and must never fail: a round does not hang on who
    watches it.
    """

    def phase(
        self, place: Place, phase: Phase, *, expected: int, needed: int
    ) -> AbstractContextManager[Callable[[int], None]]:
        """A phase lasts as long as the block. ``expected`` devices may report, fewer than ``needed`` end the attempt; the
        function that the block is given is told how many have reported so far.
        """

    def event(self, kind: str, text: str, *, round_number: int, **detail: str | int | float | None) -> None:
        """Something happened that an operator wants to know: what kind of thing, and one line about it."""


def _nobody_listens(reported: int) -> None:
    pass


class NoProgress:
    """Where nobody watches."""

    def phase(
        self, place: Place, phase: Phase, *, expected: int, needed: int
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Nothing to tell."""
        return nullcontext(_nobody_listens)

    def event(self, kind: str, text: str, *, round_number: int, **detail: str | int | float | None) -> None:
        """Nothing to tell."""
