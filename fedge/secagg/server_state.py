"""The server's side of a session while it runs. It lives in memory only: a session that is cut off is never taken up again.

Masked vectors are added to `total` as they come and are not kept, so the memory is that of one vector whatever the cohort.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedge.secagg.codec import Vector
from fedge.secagg.errors import MessageError, SecAggError, SessionAborted, StageError
from fedge.secagg.range_claim import RangeClaim
from fedge.secagg.session import Session
from protos.fedge.secagg.v1 import secagg_pb2 as pb


class Stage(Enum):
    """What the server is waiting for."""

    SHARING = "share keys"
    MASKING = "masked input"
    AGREEING = "consistency"
    UNMASKING = "unmasking"
    CLOSED = "closed"


@dataclass(slots=True, kw_only=True)
class ServerState:
    """Everything the server knows about a session. Keys of the dictionaries are roster positions."""

    session: Session
    round_key: Ed25519PrivateKey = field(repr=False)
    total: Vector = field(repr=False)
    """The running sum of what devices delivered, modulo 2^b."""
    refused: dict[str, SecAggError] = field(default_factory=dict)
    """Devices whose bundle was not taken into the roster, and why."""
    stage: Stage = Stage.SHARING
    answers: dict[tuple[Stage, int], bytes] = field(default_factory=dict, repr=False)
    """The reply of each device at each stage, as it came: a repetition is recognised by it."""
    dealings: dict[int, pb.ShareReply] = field(default_factory=dict, repr=False)
    sharers: tuple[int, ...] = ()
    """U1."""
    delivered: set[int] = field(default_factory=set)
    claim: RangeClaim | None = None
    """What each device has to prove; None in a session without range proofs."""
    commitments: dict[int, bytes] = field(default_factory=dict, repr=False)
    """With proofs: what those who delivered committed to, 32 bytes each."""
    complaints: dict[int, tuple[int, bool]] = field(default_factory=dict)
    """By complainer: the dealer, and whether the complaint is proven."""
    survivors: tuple[int, ...] = ()
    """U2."""
    consistency: bytes = b""
    endorsements: dict[int, bytes] = field(default_factory=dict, repr=False)
    reveals: dict[int, pb.UnmaskReply] = field(default_factory=dict, repr=False)

    @property
    def session_id(self) -> bytes:
        """The SHA-256 of the descriptor."""
        return self.session.session_id

    def name(self, position: int) -> str:
        """The device at a position."""
        return self.session.descriptor.roster[position - 1][0]

    def names(self, positions: Collection[int]) -> tuple[str, ...]:
        """The devices at some positions."""
        return tuple(self.name(position) for position in positions)

    def sender(self, device_id: str, stage: Stage, expected: Collection[int]) -> int:
        """The position of a device whose reply is for ``stage``. Raises StageError or MessageError where it has no place."""
        if self.stage is not stage:
            raise StageError(f"a reply to {stage.value} comes while the session is at {self.stage.value}")
        position = self.session.position(device_id)
        if position not in expected:
            raise MessageError(f"the device takes no part in {stage.value}")
        return position

    def repeated(self, position: int, reply: bytes) -> bool:
        """Whether the device gave this very reply at this stage before. Raises StageError where it gave another one."""
        earlier = self.answers.get((self.stage, position))
        if earlier is not None and earlier != reply:
            raise StageError(f"a second reply to {self.stage.value} differs from the first")
        return earlier is not None

    def accept(self, position: int, reply: bytes) -> None:
        """Notes that the device's reply at this stage was good."""
        self.answers[self.stage, position] = reply

    def require(self, stage: Stage) -> None:
        """Raises StageError unless the session stands at ``stage``."""
        if self.stage is not stage:
            raise StageError(f"the session is at {self.stage.value}, not at {stage.value}")

    def require_cohort(self, count: int) -> None:
        """Aborts unless ``count`` devices are both enough to reconstruct and enough to hide among: for U1 and U2."""
        self._require(count, max(self.session.t, self.session.config.n_min))

    def require_quorum(self, count: int) -> None:
        """Aborts unless ``count`` is t = t_c: for signatures and for shares."""
        self._require(count, self.session.t)

    def _require(self, count: int, needed: int) -> None:
        if count < needed:
            self.abort(f"{count} of {self.session.n} devices answered, it takes {needed}", exclude=self.accused())

    def accused(self) -> frozenset[str]:
        """Dealers that were complained about, and complainers that could not prove it."""
        dealers = {dealer for dealer, _ in self.complaints.values()}
        unproven = {complainer for complainer, (_, proven) in self.complaints.items() if not proven}
        return frozenset(self.names(dealers | unproven))

    def abort(self, reason: str, *, exclude: frozenset[str] = frozenset(), is_spoiled: bool = False) -> NoReturn:
        """Ends the session without a sum: what was added up is dropped."""
        stage = self.stage
        self.close()
        raise SessionAborted(stage.value, reason, exclude=exclude, is_spoiled=is_spoiled)

    def close(self) -> None:
        """Forgets everything that the session gathered."""
        self.stage = Stage.CLOSED
        self.total = self.total[:0].copy()
        for gathered in (self.answers, self.dealings, self.commitments, self.endorsements, self.reveals):
            gathered.clear()
