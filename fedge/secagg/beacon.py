"""The beacon that deals devices into cohorts: randomness that the devices of earlier sessions contributed.

Each device commits to 32 random bytes in its one-time bundle (`seed_sha256`) before a roster exists, and the seeds of all
survivors are opened when the session is unmasked. Their hash is the session's contribution. Nobody knows it before the
roster and the set of survivors are signed, as long as fewer than t of the survivors collude, and nobody can change it
afterwards: a colluder's seed was committed before any honest one was opened. This is commit and reveal, where secret
sharing opens what a last revealer would withhold (I. Cascudo and B. David, SCRAPE, 2017).

What is left to an aggregator: it may discard a session, and with it that session's contribution, after it has seen it, at
the price of the session's sum; and it may claim that devices are absent. A device's place follows from the beacon and its
own name alone, so that leaving one device out moves the border between two cohorts by one place and redraws nobody.
docs/research/group-testing.md has the argument.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from fedge.randomness import derive
from fedge.secagg.errors import MessageError
from fedge.secagg.wire import sha256

GENESIS = sha256(b"fedge/beacon/1")
"""The beacon of a federation in which no session has finished. Everybody knows it."""


def contribution(session_id: bytes, seeds: Iterable[bytes]) -> bytes:
    """Return what one finished session adds: a hash of the survivors' ``seeds`` in the order of the roster."""
    return sha256(b"fedge/beacon/contribution/1", session_id, *seeds)


def advance(beacon: bytes, period: int, contributions: Iterable[bytes]) -> bytes:
    """Return the beacon after a period. One in which no session finished leaves it as it is."""
    given = sorted(contributions)
    return sha256(b"fedge/beacon/advance/1", beacon, period.to_bytes(8, "big"), *given) if given else beacon


def order_members(beacon: bytes, names: Iterable[str], *, period: int, purpose: str) -> tuple[str, ...]:
    """Return ``names`` in the order of the period's draw. A name's rank depends on no other name."""
    return tuple(sorted(set(names), key=lambda name: (derive(beacon, "place", period, purpose, name), name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How the aggregator says that a period's cohorts were drawn: all ``members`` in order, cut into ``sizes``."""

    beacon: bytes
    period: int
    purpose: str
    members: tuple[str, ...]
    sizes: tuple[int, ...]

    def cohorts(self) -> tuple[tuple[str, ...], ...]:
        """Return the cohorts, each in the order of the draw."""
        ordered = order_members(self.beacon, self.members, period=self.period, purpose=self.purpose)
        return tuple(ordered[start:end] for start, end in pairwise((0, *accumulate(self.sizes))))

    def check_roster(self, roster: Sequence[str], *, own: str) -> None:
        """Raise MessageError unless ``roster`` is the cohort of ``own``, or what is left of it.

        A device calls it with the roster that it accepted: a stranger in it was not placed there by the beacon.
        """
        mine = next((cohort for cohort in self.cohorts() if own in cohort), None)
        if mine is None:
            raise MessageError(f"{own} was drawn into no cohort of {self.purpose} in period {self.period}")
        if strangers := sorted(set(roster) - set(mine)):
            raise MessageError(
                f"{', '.join(strangers)} sat beside {own} in period {self.period}, where the beacon put others"
            )


def check_seeds(seeds: Sequence[bytes], committed: Sequence[bytes]) -> None:
    """Raise MessageError unless each of the opened ``seeds`` is the one that its bundle committed to by SHA-256."""
    if len(seeds) != len(committed) or any(sha256(seed) != digest for seed, digest in zip(seeds, committed, strict=True)):
        raise MessageError("the beacon's seeds are not those that the bundles of the session committed to")
