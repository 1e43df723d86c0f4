"""Attacks on central's totals of probe counts: an aggregator that chooses rosters, devices that overwhelm their counts.

The aggregator holds its own round key and may name any roster in a descriptor; devices need not agree. It wins where the
totals that it gets tell one device's count.
"""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.central import ProbeCounts, TotalsPolicy, TotalsRefusedError
from aggregator.central.probe_counts import AnsweredProbe
from aggregator.central.release_scores import Score
from benchmarks.attacks.result import AttackResult
from fedge.calendar import Calendar
from fedge.features import Query
from fedge.routing import ProbeTotals
from fedge.secagg import SUITE, SessionConfig, Task, sign_descriptor
from fedge.secagg.session import Descriptor

FEDERATION = "attacked"
RELEASE = "ab" * 32
N_MIN = 11


class Knowing:
    """Scores for queries of the form "number local right"."""

    def score(self, release_id: str, queries: Sequence[Query], *, now: float) -> list[Score]:
        return [Score("right" if str(query).endswith("right") else "wrong", " local " in str(query)) for query in queries]


@dataclass(frozen=True, slots=True)
class Aggregator:
    """Whoever holds the round key, with central's interface for totals."""

    key: Ed25519PrivateKey
    counts: ProbeCounts
    calendar: Calendar

    def ask(
        self, roster: Sequence[str], *, now: float, attempt: int, cap: int = 16, key: Ed25519PrivateKey | None = None
    ) -> ProbeTotals:
        """Return what central tells about a roster of the aggregator's choice. Raises TotalsRefusedError."""
        data = descriptor(roster, period=self.calendar.period_at(now), attempt=attempt, cap=cap, now=now)
        return self.counts.roster_totals(data, sign_descriptor(key or self.key, data), now=now)


def descriptor(roster: Sequence[str], *, period: int, attempt: int, cap: int, now: float, purpose: str = "counts") -> bytes:
    """Return the bytes of a descriptor for counts of ``roster``."""
    counts = purpose == "counts"
    return Descriptor(
        suite=SUITE,
        run=FEDERATION,
        round=1,
        attempt=attempt,
        task=Task(
            purpose=purpose,  # type: ignore[arg-type]
            period=period,
            release_id=RELEASE,
            weights_sha256=RELEASE,
            structure_sha256=RELEASE,
            probe_epsilon=2.0 if counts else 0.0,
            probe_cap=cap if counts else 0,
        ),
        config=SessionConfig(
            reals=0,
            integers=4,
            bits=32,
            cohort_max=128,
            scale=1.0,
            clip_norm=1.0,
            weight_cap=1,
            n_min=2,
            deadline=now + 60,
        ),
        roster=tuple((device, bytes(32)) for device in sorted(set(roster), key=str.encode)),
        nonce=bytes(16),
    ).to_bytes()


def central(
    folder: Path, key: Ed25519PrivateKey, calendar: Calendar, *, n_min: int = N_MIN, is_demo: bool = False
) -> ProbeCounts:
    """Return central's counts as a server sets them up, with scores that are read from the query."""
    policy = TotalsPolicy(round_key=key.public_key, federation=FEDERATION, n_min=n_min, calendar=calendar, is_demo=is_demo)
    return ProbeCounts(folder / "probe_counts.sqlite", Knowing(), policy)


def roster_totals(*, seed: int) -> AttackResult:
    """Play rosters whose totals differ by one device, rosters of idle devices, repeated and foreign descriptors."""
    rng, now = random.Random(seed), 1_790_000_000.0
    calendar, key = Calendar(3600.0), Ed25519PrivateKey.generate()
    devices = [f"device-{number:02d}" for number in range(24)]
    victim, others = devices[0], devices[1:]
    with tempfile.TemporaryDirectory() as scratch:
        counts = central(Path(scratch), key, calendar)
        aggregator = Aggregator(key, counts, calendar)
        asked = 0

        def traffic(who: Sequence[str], at: float) -> dict[str, int]:
            nonlocal asked
            sent = {}
            for device in who:
                sent[device] = rng.randint(1, 9)
                asked += sent[device]
                probes = [AnsweredProbe(device, RELEASE, f"{asked}-{i} local right", "right") for i in range(sent[device])]
                counts.count(probes, now=at)
            return sent

        told: list[tuple[ProbeTotals, tuple[str, ...]]] = []
        refused = 0

        def ask(roster: Sequence[str], at: float, attempt: int, signer: Ed25519PrivateKey | None = None) -> None:
            nonlocal refused
            try:
                told.append((aggregator.ask(roster, now=at, attempt=attempt, key=signer), tuple(sorted(roster))))
            except TotalsRefusedError:
                refused += 1

        truth = traffic(devices[:20], now)
        ask(others[:N_MIN], now, 1)  # a total that is due
        ask([victim, *others[:N_MIN]], now, 2)  # and the same with one device more
        ask([victim, *others[: N_MIN - 1]], now, 3)
        ask([victim, *others[:3]], now, 4)  # too few
        ask([victim, *others[19:], *(f"invented-{n}" for n in range(N_MIN))], now, 5)  # the victim among idle ones
        ask([victim, *others[:N_MIN]], now, 6, Ed25519PrivateKey.generate())
        later = now + calendar.period_s
        truth_later = traffic([victim], later)  # only the victim has news
        ask([victim, *others[:N_MIN]], later, 7)
        ask([victim, *others[:N_MIN]], later + 1, 8)
        # What differences of any two totals tell, where their rosters differ by the victim alone.
        exposed = [
            abs(a.answered - b.answered) for a, first in told for b, second in told if set(first) ^ set(second) == {victim}
        ]
        guesses = {truth[victim], truth[victim] + truth_later[victim]}
        leaked = sum(value in guesses for value in exposed) + sum(
            len(set(roster) & set(devices[:20])) < N_MIN for _, roster in told
        )
    return AttackResult(
        attack="roster_totals",
        held=leaked == 0,
        measure="leaked",
        value=float(leaked),
        unit="devices whose count a total or a difference of totals told",
        note=f"8 rosters of an aggregator's choice: {len(told)} totals given, {refused} refused",
    )
