"""The certificate's content: what is claimed of a release's threshold, with the counts it follows from.

Canonical JSON, read strictly: a document whose claims do not follow from its own counts is refused, so a device need not
take the server's arithmetic on trust. Never signs and never looks at a clock: the signed wrapper is fedge/release's.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from fedge.errors import VerificationError
from fedge.routing.certificate import GridTest, risk_upper
from fedge.routing.deduction import PooledNoise, test_delta
from fedge.routing.probe_noise import LEAST_EPSILON, MOST_EPSILON
from fedge.routing.running import RunningBound

CertificateState = Literal["certified", "empirical", "none"]
ReleaseStatement = Literal["valid", "empirical", "none"]

SIZE_CAP_BYTES = 4_096
SEEN_CAP = 10_000_000
"""Most probes a grid test may claim: the check of its bound takes time in proportion."""
NOISE_PARTS_CAP = 10_000.0
_SLACK = 1e-9  # logarithms differ in the last digits between machines


@dataclass(frozen=True, slots=True, kw_only=True)
class Cautions:
    """What was done to the counts behind a statement: see CertificateStatement."""

    liars: int = 0
    probe_cap: int = 0
    deducted: int = 0
    cross_checked: bool = False


NO_CAUTIONS = Cautions()


@dataclass(frozen=True, slots=True)
class CertificateStatement:
    """One release's certificate.

    ``threshold`` is None while everything escalates. ``seen``, ``disagreed`` and ``grid_bound`` belong to the grid test at
    that threshold, ``running_*`` to what the fleet answered so far (``running_bound`` is None before the first local
    probe). ``tolerance`` is the risk the grid test was held to (at most ``max_risk``). ``state`` is "certified" when the
    running bound is at most ``max_risk``, there is a threshold, and the counts were ``cross_checked`` with central's totals;
    "empirical" when only the grid test passed. All counts are what is left after deductions: ``liars`` lying devices are
    tolerated in each cohort and period, each with ``probe_cap`` invented agreements a period; ``deducted`` agreements were
    taken off the grid test's for that. ``noise_epsilon`` and ``noise_parts`` (`fedge.routing.deduction.PooledNoise`) are
    the noise in the grid test's disagreements, None where devices added none.
    ``release_statement`` is "valid" when the grid test's probes are newer than the last published threshold. Times are unix
    seconds.
    """

    release_id: str
    round: int
    threshold: float | None
    state: CertificateState
    release_statement: ReleaseStatement
    max_risk: float
    tolerance: float
    confidence: float
    seen: int
    disagreed: int
    grid_bound: float | None
    running_seen: int
    running_disagreed: int
    running_bound: float | None
    probe_rate: float
    issued_at: int
    expires_at: int
    liars: int
    probe_cap: int
    deducted: int
    noise_epsilon: float | None
    noise_parts: float | None
    cross_checked: bool

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> "CertificateStatement":
        """Reads a document strictly; raises VerificationError for one that is malformed, not canonical or contradicts
        itself.
        """
        if len(payload) > SIZE_CAP_BYTES:
            raise VerificationError(f"a certificate has at most {SIZE_CAP_BYTES} bytes, not {len(payload)}")
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise VerificationError("the certificate is not JSON") from error
        names = {field.name for field in fields(cls)}
        if not isinstance(document, dict) or set(document) != names:
            odd = sorted(names ^ set(document)) if isinstance(document, dict) else []
            raise VerificationError(f"the certificate lacks or invents keys: {', '.join(odd) or 'it is no JSON object'}")
        for name, value in document.items():
            _check_type(name, value)
        statement = cls(**document)
        statement.check()
        if statement.to_bytes() != payload:
            raise VerificationError("the certificate is not in canonical form")
        return statement

    def check(self) -> None:
        """Raises VerificationError where a value is out of range or a claim does not follow from the counts."""
        for name in ("max_risk", "tolerance", "confidence"):
            if not 0 < getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "it must lie strictly between 0 and 1")
        if self.tolerance > self.max_risk:
            _refuse("tolerance", self.tolerance, f"it exceeds max_risk {self.max_risk}")
        if not 0 <= self.probe_rate <= 1:
            _refuse("probe_rate", self.probe_rate, "it must lie in 0..1")
        if self.round < 0 or self.expires_at <= self.issued_at:
            _refuse("expires_at", self.expires_at, f"issued_at is {self.issued_at}, round is {self.round}")
        if not 0 <= self.disagreed <= self.seen or not 0 <= self.running_disagreed <= self.running_seen:
            _refuse("disagreed", self.disagreed, "there are more disagreements than probes, or fewer than none")
        self._check_grid()
        self._check_running()
        if self.state != certificate_state(self.threshold, self.running_bound, self.max_risk, self.cross_checked):
            _refuse("state", self.state, "the bounds, or the counts' cross-check, say otherwise")

    @property
    def noise(self) -> PooledNoise | None:
        """The noise in the grid test's disagreements. Raises VerificationError for one that cannot be."""
        if self.noise_epsilon is None or self.noise_parts is None:
            if self.noise_epsilon is not self.noise_parts:
                _refuse("noise_parts", self.noise_parts, f"noise_epsilon is {self.noise_epsilon}")
            return None
        if not (LEAST_EPSILON <= self.noise_epsilon <= MOST_EPSILON and 0 < self.noise_parts <= NOISE_PARTS_CAP):
            _refuse("noise_epsilon", self.noise_epsilon, f"or noise_parts {self.noise_parts} is out of range")
        return PooledNoise(self.noise_epsilon, self.noise_parts)

    def _check_grid(self) -> None:
        if self.threshold is None:
            if self.grid_bound is not None or self.seen or self.release_statement != "none":
                _refuse("threshold", None, "counts or a statement stand without one")
            return
        if self.deducted < self.liars * self.probe_cap:
            _refuse("deducted", self.deducted, f"{self.liars} liars of {self.probe_cap} probes are tolerated")
        if not 0 < self.threshold < 1:
            _refuse("threshold", self.threshold, "it must lie strictly between 0 and 1")
        if self.seen > SEEN_CAP or self.disagreed > self.tolerance * self.seen:  # before work that grows with the counts
            _refuse("seen", self.seen, f"more than {SEEN_CAP} probes, or {self.disagreed} disagreements: beyond tolerance")
        noise = self.noise
        expected = risk_upper(self.disagreed, self.seen, test_delta(1 - self.confidence, noise), noise)
        if self.grid_bound is None or not math.isclose(self.grid_bound, expected, rel_tol=_SLACK):
            _refuse("grid_bound", self.grid_bound, f"its counts give {expected}")
        if expected > self.tolerance * (1 + _SLACK) or self.release_statement == "none":
            _refuse("threshold", self.threshold, f"bound {expected} exceeds tolerance {self.tolerance}")

    def _check_running(self) -> None:
        expected = running_upper(RunningBound(self.running_seen, self.running_disagreed), self.confidence)
        if expected is None or self.running_bound is None:
            if expected is not self.running_bound:
                _refuse("running_bound", self.running_bound, f"its counts give {expected}")
        elif not math.isclose(self.running_bound, expected, rel_tol=_SLACK):
            _refuse("running_bound", self.running_bound, f"its counts give {expected}")


def certificate_state(
    threshold: float | None, running_bound: float | None, max_risk: float, cross_checked: bool
) -> CertificateState:
    """The state that the bounds give: see CertificateStatement."""
    if threshold is None:
        return "none"
    return "certified" if cross_checked and running_bound is not None and running_bound <= max_risk else "empirical"


def running_upper(running: RunningBound, confidence: float) -> float | None:
    """The running bound at ``confidence``, or None before the first local probe."""
    return running.upper(1 - confidence) if running.seen else None


def statement(
    *,
    release_id: str,
    round: int,
    grid: GridTest,
    running: RunningBound,
    max_risk: float,
    tolerance: float,
    confidence: float,
    probes_are_new: bool,
    probe_rate: float,
    issued_at: int,
    expires_at: int,
    cautions: Cautions = NO_CAUTIONS,
) -> CertificateStatement:
    """The statement that follows from a grid test and the running counts. ``probes_are_new``: newer than the last
    threshold. ``cautions``: what was deducted from both before.
    """
    bound = running_upper(running, confidence)
    result = CertificateStatement(
        release_id=release_id,
        round=round,
        threshold=grid.threshold,
        state=certificate_state(grid.threshold, bound, max_risk, cautions.cross_checked),
        release_statement="none" if grid.threshold is None else "valid" if probes_are_new else "empirical",
        max_risk=max_risk,
        tolerance=tolerance,
        confidence=confidence,
        seen=grid.seen,
        disagreed=grid.disagreed,
        grid_bound=grid.bound,
        running_seen=running.seen,
        running_disagreed=running.disagreed,
        running_bound=bound,
        probe_rate=probe_rate,
        issued_at=issued_at,
        expires_at=expires_at,
        liars=cautions.liars,
        probe_cap=cautions.probe_cap,
        deducted=cautions.deducted,
        noise_epsilon=None if grid.noise is None else grid.noise.epsilon,
        noise_parts=None if grid.noise is None else grid.noise.parts,
        cross_checked=cautions.cross_checked,
    )
    result.check()
    return result


_INTEGERS = {"round", "seen", "disagreed", "running_seen", "running_disagreed", "issued_at", "expires_at"} | {
    "liars",
    "probe_cap",
    "deducted",
}
_NUMBERS = {"max_risk", "tolerance", "confidence", "probe_rate"}
_NUMBERS_OR_NULL = {"threshold", "grid_bound", "running_bound", "noise_epsilon", "noise_parts"}


def _check_type(name: str, value: object) -> None:
    if name in _INTEGERS:
        good = type(value) is int and 0 <= value < 2**53
    elif name == "cross_checked":
        good = type(value) is bool
    elif name in _NUMBERS:
        good = type(value) is float and math.isfinite(value)
    elif name in _NUMBERS_OR_NULL:
        good = value is None or (type(value) is float and math.isfinite(value))
    elif name == "state":
        good = value in get_args(CertificateState)
    elif name == "release_statement":
        good = value in get_args(ReleaseStatement)
    else:
        good = isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value)
    if not good:
        _refuse(name, value, "it has the wrong type or range")


def _refuse(name: str, value: object, why: str) -> None:
    raise VerificationError(f"certificate: {name} {value!r} cannot stand: {why}")
