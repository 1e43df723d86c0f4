"""What a caller gets for a query: the answer, who gave it, why, how sure, under which release, at what cost and how fast."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. ``answer_id`` names it for a correction.

    ``answer`` is None where nobody could answer: no release on this device yet, and central out of reach or out of bounds.
    ``answered_by``: "device", "central", "upstream" or "human" (``answer`` is then the device's suggestion to that person).
    ``degraded``: the device would rather have asked. ``probe``: central's answer serves calibration only. ``usd``: what this
    answer cost, electricity included. ``latency_ms``: measured, or the profile's figure for the device's part (simulation).
    ``queued``: central will be asked later, as the caller wished; this stands on disk. ``recorded``: the answer is in the
    device's store; False where the disk took nothing, and then ``answer_id`` is 0 and the answer cannot be corrected.
    """

    answer_id: int
    answer: str | None
    answered_by: str
    reason: str
    confidence: float
    usd: float
    release: str | None
    latency_ms: float
    degraded: bool
    probe: bool
    queued: bool = False
    recorded: bool = True

    def to_mapping(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)
