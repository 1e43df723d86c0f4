"""The probe counts of a round: its cohorts' secure sums, held against central's totals, with what has to be deducted.

A liar's sum costs its cohort at most its histograms, never the running pair, which central's totals bear, and never another
cohort's counts. What speaks of a liar is told as evidence; who it is, one sum cannot tell.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from aggregator.rounds.certification import Precautions
from fedge.errors import FedgeError, InputError
from fedge.layouts import PROBES_CAP, CountSums
from fedge.routing import CrossCheck, Deduction, PooledNoise, ProbeTotals
from fedge.routing.probe_cap import probe_cap
from fedge.routing.probe_noise import ProbeNoise
from fedge.secagg import threshold

RESCORES = 8
"""K: in how many sums devices let one probe stand (`edge_client.rounds.budget`, by default)."""
NOISE_SLACK = 64
"""Probes by which the noise in a whole histogram may exceed what central answered before it is taken for a lie."""


class TotalsSource(Protocol):
    """Where central's totals come from: `aggregator.central.ProbeCounts` or its client."""

    def roster_totals(self, descriptor: bytes, signature: bytes) -> ProbeTotals:
        """Return the total for a signed descriptor's roster. Raises FedgeError where none is given."""


@dataclass(frozen=True, slots=True)
class ProbeState:
    """What counts sessions carry from round to round.

    ``answered``: probes in all totals so far; ``caps``: the last `RESCORES` periods' probe caps times cohorts, for each of
    which a liar's inventions may still stand in a pooled histogram; ``device_caps``: the same caps, of one device;
    ``cap``: the next period's probe cap, 0 for the settings' one.
    """

    check: CrossCheck = field(default_factory=CrossCheck)
    answered: int = 0
    caps: tuple[int, ...] = ()
    stored: tuple[int, ...] = ()
    """New probes in the last `RESCORES` rounds' histograms."""
    cap: int = 0
    device_caps: tuple[int, ...] = ()

    def store(self, cap: int) -> int:
        """Return how many stored probes a device may have in its histograms, in a period of the probe cap ``cap``."""
        return sum((*self.device_caps, cap)[-RESCORES:])

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form."""
        form: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return form

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> "ProbeState":
        """Read the JSON form. Raises TypeError, KeyError, ValueError or InputError for anything else."""
        check = form["check"]
        totals = {name: ProbeTotals(**check[name]) for name in ("given", "reported", "used")}
        state = cls(
            CrossCheck(**totals, left_over=check["left_over"]),
            form["answered"],
            tuple(form["caps"]),
            tuple(form["stored"]),
            form["cap"],
            tuple(form.get("device_caps", ())),
        )
        numbers = (state.check.left_over, state.answered, state.cap, *state.caps, *state.stored, *state.device_caps)
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError(f"probe counts are {state}")
        return state


@dataclass(slots=True)
class ProbeSums:
    """One round's counts as they come in, cohort by cohort.

    ``has_source``: central's totals can be had at all. ``most``: how many agreements a device can prove in its histogram of
    stored probes; None in sessions without range proofs, where what liars may have there follows from past caps.
    """

    state: ProbeState
    liars: int
    cap: int
    epsilon: float
    has_source: bool
    most: int | None = None
    counts: CountSums | None = None
    evidence: list[str] = field(default_factory=list)
    _pair: tuple[int, int] = (0, 0)
    _pairs: int = 0
    _cohorts: int = 0
    _unchecked: int = 0
    _excess: int = 0
    _parts: float = 0.0
    _devices: int = 0

    def add(self, sums: CountSums, totals: ProbeTotals | None, *, roster: int, survivors: int) -> None:
        """Take one cohort's sums, over ``survivors`` of ``roster`` devices, with central's total for its roster, if it
        gave one.
        """
        excess = self._add_pair(sums, totals, survivors)
        if totals is None:
            self._unchecked += 1
        pooled = sums if self.counts is None else self.counts + sums
        try:
            sums.check(devices=survivors)
            pooled.check(devices=self._devices + survivors)
            if excess > 2 * self.liars * self.cap:
                raise InputError(f"they name {excess} new probes more than central answered")
        except InputError as error:  # deducted, such an excess would take the other cohorts' probes away as well
            self.evidence.append(f"a cohort's histograms are left out: {error}")
            return
        self.counts = pooled
        self._devices += survivors
        self._cohorts += 1
        self._excess += excess
        self._parts += survivors / threshold(roster)

    def _add_pair(self, sums: CountSums, totals: ProbeTotals | None, survivors: int) -> int:
        """Take the running pair; return by how much the new probes exceed what central answered."""
        seen, wrong = sums.running_seen, sums.running_disagreed
        plausible = 0 <= wrong <= seen <= survivors * PROBES_CAP
        pair = (seen - wrong, wrong) if plausible else (0, 0)
        if not plausible:
            self.evidence.append(f"a running pair of {wrong} disagreements among {seen} probes cannot be")
        slack = max(self.liars * self.cap, 1)
        if totals is not None:
            reported = ProbeTotals(max(int(sums.new_seen.sum()), 0), *pair)
            check, checked = self.state.check.apply(reported, totals, slack=slack)
            self.evidence += checked.evidence
            pair = checked.agreed, checked.disagreed
            cap = probe_cap(totals.answered, roster_size(totals, survivors), cap=self.cap)
            self.state = replace(self.state, check=check, answered=self.state.answered + totals.answered, cap=cap)
            excess = checked.excess
        elif self.has_source:  # they count once central has confirmed them
            self.state = replace(self.state, check=self.state.check.defer(ProbeTotals(0, *pair)))
            return 0
        else:
            excess = 0
        self._pair = self._pair[0] + pair[0], self._pair[1] + pair[1]
        self._pairs += 1
        return excess

    def pair(self) -> tuple[int, int]:
        """Return (seen, disagreed) of the running pair that may be used."""
        return self._pair[0] + self._pair[1], self._pair[1]

    @property
    def pair_deduction(self) -> int:
        """Agreements of the running pair that liars may have invented."""
        return self.liars * self.cap * self._pairs

    def precautions(self) -> tuple[Precautions, ProbeState]:
        """Return what to deduct from `counts`, and the state after this round. Call it once all cohorts are in."""
        caps = (*self.state.caps, self.cap * self._cohorts)[-RESCORES:]
        new = 0 if self.counts is None else int(self.counts.new_seen.sum())
        stored = (*self.state.stored, new)[-RESCORES:]
        invented = sum(caps) if self.most is None else self.most * self._cohorts
        pooled = self.liars * invented + self._excess
        if self.counts is not None and not self._unchecked and self.has_source:
            pooled += max(0, int(self.counts.seen.sum()) - self.state.answered - NOISE_SLACK)
        noise = PooledNoise(self.epsilon, self._parts) if self._parts else None
        precautions = Precautions(
            liars=self.liars,
            probe_cap=self.cap,
            pair=self.pair_deduction,
            new=Deduction(probes=self.liars * self.cap * self._cohorts + self._excess),
            pooled=Deduction(probes=pooled, hidden=0 if noise is None else self._hidden(), noise=noise),
            stored=max(1, sum(stored)),
            cross_checked=self.has_source and not self._unchecked,
        )
        device_caps = (*self.state.device_caps, self.cap)[-RESCORES:]
        return precautions, replace(self.state, caps=caps, stored=stored, device_caps=device_caps)

    def _hidden(self) -> int:
        """Return how many disagreements of others liars may have hidden at each threshold within their proved ranges."""
        proved = self.most is not None
        return self.liars * self._cohorts * ProbeNoise(self.epsilon, 1).room if proved else 0


def roster_size(totals: ProbeTotals, survivors: int) -> int:
    """Return over how many devices a total's probes are spread: those whose vectors came, since a device without stays
    out.
    """
    return max(1, min(survivors, totals.answered))


def ask_totals(source: TotalsSource, descriptor: bytes, signature: bytes) -> tuple[ProbeTotals | None, str]:
    """Return central's total for a session's roster, or None and why there is none."""
    try:
        return source.roster_totals(descriptor, signature), ""
    except FedgeError as error:
        return None, str(error)
