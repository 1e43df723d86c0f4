"""Find the devices that spoil sums: Bayesian group testing over cohorts that are redrawn in every period.

A sum hides its summands, so a spoiled one blames nobody. It is a pooled test: somebody among its members is hostile, or
the alarm is false. Cohorts are redrawn in later periods, and the tests together tell. The model is noisy OR: a hostile
member spoils a sum with probability ``rate``, honest ones with the verdict's false-alarm probability. The posterior is
computed over all sets of at most three hostile devices, beyond those that are excluded already, and over a few rates,
since an adversary may behave in some periods. Tests never cost a device anything: they are the sums that the period asks
for anyway, each device's contribution in one of them.

Sources: R. Dorfman, The detection of defective members of large populations (1943); M. Aldridge, O. Johnson and
J. Scarlett, Group Testing: An Information Theory Perspective (2019), chapters 2 (COMP) and 3 (noisy models).
docs/research/group-testing.md has the proofs and the measured numbers of sessions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError


class Verdict(StrEnum):
    """The outcome of a session as evidence about its members."""

    CLEAN = "clean"
    SHARES = "shares"
    """A dealing is inconsistent: the protocol names its dealer."""
    SUM = "sum"
    """The tripwire or the range of the sum is wrong."""
    COUNTS = "counts"
    """Counts contradict each other, or exceed central's totals."""
    NORM = "norm"
    """The sum of updates is far longer than those of past rounds."""
    ACCURACY = "accuracy"
    """The release that was made of the sums failed its accuracy gate."""


FALSE_ALARM: Mapping[Verdict, float] = {
    Verdict.SHARES: 1e-4,
    Verdict.SUM: 1e-4,
    Verdict.COUNTS: 1e-4,
    Verdict.NORM: 0.02,
    Verdict.ACCURACY: 0.05,
}
"""The probability that honest members alone give the verdict. The first three need a fault of hardware or software."""

SET_SIZE = 3
POOL = 48
"""At most so many devices are considered: those that explain the spoiled sums best by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspicionPolicy:
    """``prior``: the probability that a device is hostile. ``level``: the posterior from which it is excluded.

    ``rates``: how often a hostile device attacks, each as likely as the others. Evidence counts for ``memory`` periods. The
    first exclusion lasts ``probation`` periods, and each later one of the same device twice as long as the one before.
    """

    prior: float = 0.05
    level: float = 0.99
    rates: tuple[float, ...] = (0.99, 0.5, 0.2)
    memory: int = 90
    probation: int = 90

    def __post_init__(self) -> None:
        """Raise InputError for probabilities outside (0, 1)."""
        if not all(0.0 < value < 1.0 for value in (self.prior, *self.rates)) or not 0.0 < self.level <= 1.0:
            raise InputError(f"prior {self.prior}, rates {self.rates} and level {self.level} must be probabilities below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledTest:
    """One session as a test of its ``members``, the devices whose vectors it summed."""

    period: int
    purpose: str
    members: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """A device is left out of rosters up to and with the period ``until``. ``times``: how often it has been excluded."""

    device: str
    since: int
    until: int
    posterior: float
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """The evidence so far and the devices that it excludes. ``past``: exclusions that are over."""

    tests: tuple[PooledTest, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    past: tuple[Exclusion, ...] = ()

    @property
    def excluded(self) -> frozenset[str]:
        """The devices that no roster takes."""
        return frozenset(exclusion.device for exclusion in self.exclusions)

    def unexplained(self) -> tuple[PooledTest, ...]:
        """Return the spoiled sums that no excluded device took part in."""
        excluded = self.excluded
        return tuple(test for test in self.tests if test.verdict is not Verdict.CLEAN and not excluded & set(test.members))

    def begin(self, period: int, policy: SuspicionPolicy) -> "Suspicion":
        """Forget evidence that is too old, and readmit the devices whose probation is over."""
        recent = replace(self, tests=tuple(test for test in self.tests if test.period > period - policy.memory))
        over = [exclusion.device for exclusion in self.exclusions if exclusion.until < period]
        return recent.readmit(over)

    def lift(self, readmissions: Mapping[str, int]) -> "Suspicion":
        """Readmit the devices whose exclusion of the given number still stands."""
        return self.readmit(one.device for one in self.exclusions if readmissions.get(one.device) == one.times)

    def readmit(self, devices: Iterable[str]) -> "Suspicion":
        """Take devices into rosters again. Sums that they took part in are no evidence any more, against nobody."""
        names = set(devices) & self.excluded
        if not names:
            return self
        return replace(
            self,
            tests=tuple(test for test in self.tests if not names & set(test.members)),
            exclusions=tuple(exclusion for exclusion in self.exclusions if exclusion.device not in names),
            past=(
                *(exclusion for exclusion in self.past if exclusion.device not in names),
                *(exclusion for exclusion in self.exclusions if exclusion.device in names),
            ),
        )

    def observe(
        self, members: Iterable[str], verdict: Verdict, *, period: int, purpose: str, policy: SuspicionPolicy
    ) -> "Suspicion":
        """Add one session's evidence, and exclude the devices whose posterior reaches the policy's level.

        A clean sum is kept only while a spoiled one of the same purpose is remembered: an honest fleet stores nothing.
        """
        test = PooledTest(period=period, purpose=purpose, members=tuple(sorted(set(members))), verdict=verdict)
        if not test.members:
            return self
        if verdict is Verdict.CLEAN and not any(_is_spoiled(other, purpose) for other in self.tests):
            return self
        return replace(self, tests=(*self.tests, test))._exclude(period, policy)

    def posterior(self, policy: SuspicionPolicy) -> dict[str, float]:
        """Return the probability of being hostile of each device that took part in an unexplained spoiled sum."""
        return hostile_posterior(self.tests, self.excluded, policy) if self.unexplained() else {}

    def _exclude(self, period: int, policy: SuspicionPolicy) -> "Suspicion":
        suspicion = self
        while posterior := suspicion.posterior(policy):
            device = max(posterior, key=lambda name: (posterior[name], name))
            if posterior[device] < policy.level:
                break
            times = 1 + max((one.times for one in suspicion.past if one.device == device), default=0)
            exclusion = Exclusion(
                device=device,
                since=period,
                until=period + policy.probation * 2 ** min(times - 1, 10),
                posterior=posterior[device],
                times=times,
            )
            suspicion = replace(suspicion, exclusions=(*suspicion.exclusions, exclusion))
        return suspicion

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries. Names stand once: tests refer to them by position."""
        names = sorted({name for test in self.tests for name in test.members})
        place = {name: position for position, name in enumerate(names)}
        return {
            "names": names,
            "tests": [
                [test.period, test.purpose, test.verdict.value, [place[name] for name in test.members]]
                for test in self.tests
            ],
            "exclusions": [_exclusion_values(exclusion) for exclusion in self.exclusions],
            "past": [_exclusion_values(exclusion) for exclusion in self.past],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Suspicion":
        """Read what `to_json` wrote. Raises ValueError, TypeError or KeyError for anything else."""
        names = document["names"]
        return cls(
            tests=tuple(
                PooledTest(
                    period=int(period),
                    purpose=str(purpose),
                    members=tuple(str(names[place]) for place in members),
                    verdict=Verdict(verdict),
                )
                for period, purpose, verdict, members in document["tests"]
            ),
            exclusions=tuple(_exclusion(values) for values in document["exclusions"]),
            past=tuple(_exclusion(values) for values in document["past"]),
        )


def hostile_posterior(tests: Sequence[PooledTest], excluded: frozenset[str], policy: SuspicionPolicy) -> dict[str, float]:
    """Return P(device is hostile | tests) for every device that is not excluded and took part in a spoiled sum.

    Devices in ``excluded`` count as hostile. Exact over all sets of at most three further ones.
    """
    tests = [test for test in tests if any(_is_spoiled(other, test.purpose) for other in tests)]
    pool = sorted({name for test in tests if test.verdict is not Verdict.CLEAN for name in test.members} - excluded)
    if not pool:
        return {}
    known = np.array([len(excluded.intersection(test.members)) for test in tests])
    took_part = np.array([[name in members for members in map(frozenset, (t.members for t in tests))] for name in pool])
    tables = np.stack([_log_likelihoods(tests, known, rate) for rate in policy.rates])
    if len(pool) > POOL:
        alone = np.logaddexp.reduce(_log_likelihood(tables, took_part.astype(np.int8)))
        best = np.sort(np.argsort(-alone, kind="stable")[:POOL])
        pool, took_part = [pool[place] for place in best], took_part[best]
    sets = _sets(len(pool))
    with_nobody = np.vstack([took_part, np.zeros((1, len(tests)), dtype=bool)]).astype(np.int8)
    hostile = with_nobody[sets].sum(axis=1, dtype=np.int8)
    odds = np.log(policy.prior) - np.log1p(-policy.prior)
    log_prior = odds * (sets < len(pool)).sum(axis=1)
    log_weight = log_prior + np.logaddexp.reduce(_log_likelihood(tables, hostile))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    marginal = np.zeros(len(pool) + 1)
    for column in sets.T:
        marginal += np.bincount(column, weights=weight, minlength=len(pool) + 1)
    return dict(zip(pool, marginal[:-1].tolist(), strict=True))


def _log_likelihoods(tests: Sequence[PooledTest], known: NDArray[np.int64], rate: float) -> NDArray[np.float64]:
    """Return log P(verdict | k further hostile members) as [tests, SET_SIZE + 1]."""
    further = np.arange(SET_SIZE + 1)
    quiet = (1.0 - rate) ** (known[:, None] + further)
    false_alarm = np.array([FALSE_ALARM.get(test.verdict, 0.0) for test in tests])[:, None]
    is_clean = np.array([test.verdict is Verdict.CLEAN for test in tests])[:, None]
    table: NDArray[np.float64] = np.log(np.where(is_clean, quiet, 1.0 - (1.0 - false_alarm) * quiet))
    return table


def _log_likelihood(tables: NDArray[np.float64], hostile: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return the sums of ``tables`` [rates, tests, counts] over the tests, for each row of ``hostile`` [hypotheses, tests].

    The result is [rates, hypotheses].
    """
    nobody = tables[:, :, 0]
    total: NDArray[np.float64] = nobody.sum(axis=1)[:, None]
    for count in range(1, tables.shape[2]):
        total = total + (tables[:, :, count] - nobody) @ (hostile == count).T
    return total


@lru_cache(maxsize=8)
def _sets(size: int) -> NDArray[np.int64]:
    """Return all sets of at most three of ``size`` devices as rows of places; ``size`` itself stands for nobody."""
    rows = [
        (*chosen, *[size] * (SET_SIZE - len(chosen))) for k in range(SET_SIZE + 1) for chosen in combinations(range(size), k)
    ]
    return np.array(rows)


def _is_spoiled(test: PooledTest, purpose: str) -> bool:
    return test.purpose == purpose and test.verdict is not Verdict.CLEAN


def _exclusion_values(exclusion: Exclusion) -> list[Any]:
    return [exclusion.device, exclusion.since, exclusion.until, exclusion.posterior, exclusion.times]


def _exclusion(values: Sequence[Any]) -> Exclusion:
    device, since, until, posterior, times = values
    return Exclusion(device=str(device), since=int(since), until=int(until), posterior=float(posterior), times=int(times))
