"""Secure aggregation `cohort-secagg-v2`: the server learns the sum of a cohort's vectors and nothing else about any of them.

Sans-IO: states and messages in, states and messages out; no sockets, no clock, no global randomness. A driver calls the
functions below in the order of the protocol; `fedge.secagg.plain` has the same functions for runs where nothing is private.
"""

from fedge.secagg.bundle import SUITE, CertificateVerifier
from fedge.secagg.codec import Decoded, Vector, decode, encode, weighted_update
from fedge.secagg.config import SessionConfig, threshold
from fedge.secagg.device import (
    create_bundle,
    erase,
    expire,
    handle_consistency,
    handle_roster,
    handle_shares,
    handle_unmask,
)
from fedge.secagg.device_state import DeviceState, Phase
from fedge.secagg.errors import (
    CodecError,
    MessageError,
    RefusedError,
    SecAggError,
    SessionAborted,
    StageError,
    UnknownRoundKey,
)
from fedge.secagg.policy import DevicePolicy, sign_descriptor, verify_descriptor
from fedge.secagg.range_claim import RangeClaim
from fedge.secagg.record import Outcome, RoundRecord, read_record
from fedge.secagg.recovery import recover
from fedge.secagg.server import (
    create_consistency_messages,
    create_session,
    create_share_messages,
    create_unmask_messages,
    handle_consistency_reply,
    handle_masked,
    handle_roster_reply,
    handle_unmask_reply,
)
from fedge.secagg.server_state import ServerState, Stage
from fedge.secagg.session import PURPOSES, Purpose, Session, Task

__all__ = [
    "PURPOSES",
    "SUITE",
    "CertificateVerifier",
    "CodecError",
    "Decoded",
    "DevicePolicy",
    "DeviceState",
    "MessageError",
    "Outcome",
    "Phase",
    "Purpose",
    "RangeClaim",
    "RefusedError",
    "RoundRecord",
    "SecAggError",
    "ServerState",
    "Session",
    "SessionAborted",
    "SessionConfig",
    "Stage",
    "StageError",
    "Task",
    "UnknownRoundKey",
    "Vector",
    "create_bundle",
    "create_consistency_messages",
    "create_session",
    "create_share_messages",
    "create_unmask_messages",
    "decode",
    "encode",
    "erase",
    "expire",
    "handle_consistency",
    "handle_consistency_reply",
    "handle_masked",
    "handle_roster",
    "handle_roster_reply",
    "handle_shares",
    "handle_unmask",
    "handle_unmask_reply",
    "read_record",
    "recover",
    "threshold",
    "weighted_update",
    "sign_descriptor",
    "verify_descriptor",
]
