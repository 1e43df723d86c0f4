"""The stand-in for runs without secure aggregation (`--plain`). NOT PRIVATE: the server sees every device's encoded vector.

It has the functions of `fedge.secagg` with the same names and arguments, so that a driver takes either module. The same
encoded integers travel, and the same devices dropping out at the same stages leave the same survivors, the same sum or the
same abort. The descriptor is signed and checked as usual; certificates, shares and masks have no part in it, and replies
are bare acknowledgements that anybody could send.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from fedge.secagg.beacon import contribution
from fedge.secagg.bundle import NONCE_BYTES, CertificateVerifier
from fedge.secagg.codec import Vector, check_total, dtype_of
from fedge.secagg.config import SessionConfig
from fedge.secagg.device import erase, expire
from fedge.secagg.device_state import DeviceState, Phase
from fedge.secagg.errors import CodecError, MessageError, RefusedError, SecAggError, blaming
from fedge.secagg.policy import DevicePolicy, accept_descriptor
from fedge.secagg.range_claim import RangeClaim, require_claim
from fedge.secagg.record import Outcome, sign_record
from fedge.secagg.server import open_session
from fedge.secagg.server_state import ServerState, Stage
from fedge.secagg.session import DESCRIPTOR_NONCE_BYTES, Descriptor, Session, Task
from fedge.secagg.wire import check_id, check_positions, check_size, parse, sha256, vector_from
from protos.fedge.secagg.v1 import secagg_pb2 as pb

SUITE = "plain-v1"

__all__ = [
    "SUITE",
    "DeviceState",
    "ServerState",
    "create_bundle",
    "create_consistency_messages",
    "create_session",
    "create_share_messages",
    "create_unmask_messages",
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
    "recover",
]


def create_bundle(
    identity_key: Ed25519PrivateKey,
    device_id: str,
    certificate_der: bytes,
    *,
    now: float,
    expires: float,
    entropy: Callable[[int], bytes],
) -> tuple[DeviceState, bytes]:
    """Checks the device in under its bare name: certificate and times are not used."""
    bundle = pb.PlainBundle(
        suite=SUITE, device_id=check_id("the device's name", device_id), nonce=entropy(NONCE_BYTES)
    ).SerializeToString()
    return DeviceState(phase=Phase.BUNDLED, device_id=device_id, bundle=bundle, identity_key=identity_key), bundle


def handle_roster(state: DeviceState, message: bytes, policy: DevicePolicy) -> tuple[DeviceState, bytes]:
    """Checks the descriptor as in the protocol (peers are taken at their word) and acknowledges it."""
    if state.repeats(Phase.SHARED, message):
        return state, state.reply
    state.require(Phase.BUNDLED)
    _, roster = accept_descriptor(message, policy, suite=SUITE, device_id=state.device_id, bundle=state.bundle)
    session = Session.of(roster.descriptor, ())
    return _acknowledged(replace(state, phase=Phase.SHARED, session=session), session, "shares", message)


def handle_shares(
    state: DeviceState, message: bytes, encoded: Vector, claim: RangeClaim | None = None
) -> tuple[DeviceState, bytes, Vector | None]:
    """Hands out ``encoded`` [m] as it is. NOT PRIVATE. Never None: there is nothing to complain about, and to prove."""
    del claim
    if state.repeats(Phase.MASKED, message):
        assert state.session is not None
        return state, state.reply, np.frombuffer(state.vector, dtype=dtype_of(state.session.config))
    state.require(Phase.SHARED)
    session, sharers = _read_step(state, "masked", message)
    _check_cohort(session, sharers)
    vector = vector_from(encoded, session.config).copy()
    sent = replace(state, phase=Phase.MASKED, sharers=sharers, vector=vector.tobytes())
    return *_acknowledged(sent, session, "masked", message), vector


def handle_consistency(state: DeviceState, message: bytes) -> tuple[DeviceState, bytes]:
    """Acknowledges the set of survivors."""
    if state.repeats(Phase.AGREED, message):
        return state, state.reply
    state.require(Phase.MASKED)
    session, survivors = _read_step(state, "consistency", message)
    _check_cohort(session, survivors)
    if not set(survivors) <= set(state.sharers):
        raise RefusedError(f"the survivors {survivors} are not all among {state.sharers}")
    agreed = replace(state, phase=Phase.AGREED, survivors=survivors, vector=b"")
    return _acknowledged(agreed, session, "consistency", message)


def handle_unmask(state: DeviceState, message: bytes) -> tuple[DeviceState, bytes]:
    """Acknowledges that enough others agreed."""
    if state.repeats(Phase.REVEALED, message):
        return state, state.reply
    state.require(Phase.AGREED)
    session, agreed = _read_step(state, "unmask", message)
    if not set(agreed) <= set(state.survivors) or len(agreed) < session.t:
        raise RefusedError(f"{agreed} are not {session.t} of the survivors {state.survivors}")
    return _acknowledged(replace(state, phase=Phase.REVEALED), session, "unmask", message)


def create_session(
    config: SessionConfig,
    bundles: Mapping[str, bytes],
    *,
    round_key: Ed25519PrivateKey,
    run: str,
    round: int,
    attempt: int,
    task: Task,
    verify_certificate: CertificateVerifier,
    now: float,
    entropy: Callable[[int], bytes],
    claim: RangeClaim | None = None,
) -> tuple[ServerState, dict[str, bytes]]:
    """Fixes the cohort of all devices whose bundle bears their name: certificates and times are not used."""
    claim = require_claim(task, claim)
    taken: dict[str, bytes] = {}
    refused: dict[str, SecAggError] = {}
    for device_id in sorted(bundles, key=str.encode):
        try:
            with blaming(device_id):
                _check_bundle(device_id, bundles[device_id])
            taken[device_id] = bundles[device_id]
        except SecAggError as error:
            refused[device_id] = error
    descriptor = Descriptor(
        suite=SUITE,
        run=run,
        round=round,
        attempt=attempt,
        task=task,
        config=config,
        roster=tuple((device_id, sha256(bundle)) for device_id, bundle in taken.items()),
        nonce=entropy(DESCRIPTOR_NONCE_BYTES),
    )
    state, messages = open_session(descriptor, (), round_key=round_key, members=(), refused=refused)
    state.claim = claim
    return state, messages


def handle_roster_reply(state: ServerState, device_id: str, reply: bytes) -> None:
    """Takes an acknowledgement of the roster."""
    position = _take(state, device_id, reply, stage=Stage.SHARING, expected=range(1, state.session.n + 1), step="shares")
    state.dealings[position] = pb.ShareReply()


def create_share_messages(state: ServerState) -> dict[str, bytes]:
    """Closes U1 and asks its members for their vectors."""
    state.require(Stage.SHARING)
    state.require_cohort(len(state.dealings))
    state.sharers = tuple(sorted(state.dealings))
    state.stage = Stage.MASKING
    return _ask(state, state.sharers, "masked", state.sharers)


def handle_masked(state: ServerState, device_id: str, reply: bytes, vector: NDArray[Any] | bytes | None) -> None:
    """Adds a vector to the sum. What devices prove elsewhere is plain to see here: it is checked by looking."""
    with blaming(device_id):
        values = vector_from(vector, state.session.config)
        if state.claim is not None:
            state.claim.check(values, state.session.config)
    position = _take(state, device_id, reply, stage=Stage.MASKING, expected=state.sharers, step="masked")
    if position not in state.delivered:
        np.add(state.total, values, out=state.total)
        state.delivered.add(position)


def create_consistency_messages(state: ServerState) -> dict[str, bytes]:
    """Closes U2 and tells its members."""
    state.require(Stage.MASKING)
    state.require_cohort(len(state.delivered))
    state.survivors = tuple(sorted(state.delivered))
    state.stage = Stage.AGREEING
    return _ask(state, state.survivors, "consistency", state.survivors)


def handle_consistency_reply(state: ServerState, device_id: str, reply: bytes) -> None:
    """Takes an acknowledgement of U2."""
    position = _take(state, device_id, reply, stage=Stage.AGREEING, expected=state.survivors, step="consistency")
    state.endorsements[position] = b""


def create_unmask_messages(state: ServerState) -> dict[str, bytes]:
    """Tells everyone who agreed that enough did."""
    state.require(Stage.AGREEING)
    state.require_quorum(len(state.endorsements))
    state.stage = Stage.UNMASKING
    signers = tuple(sorted(state.endorsements))
    return _ask(state, signers, "unmask", signers)


def handle_unmask_reply(state: ServerState, device_id: str, reply: bytes) -> None:
    """Takes the last acknowledgement."""
    position = _take(state, device_id, reply, stage=Stage.UNMASKING, expected=state.endorsements, step="unmask")
    state.reveals[position] = pb.UnmaskReply()


def recover(state: ServerState, *, threads: int = 1) -> Outcome:
    """The sum, under the same conditions as in the protocol."""
    state.require(Stage.UNMASKING)
    state.require_quorum(len(state.reveals))
    try:
        check_total(state.total, len(state.survivors), state.session.config)
    except CodecError as error:
        state.abort(str(error), is_spoiled=True)
    record = sign_record(state.session, state.total, len(state.survivors), state.round_key)
    outcome = Outcome(state.total, state.names(state.survivors), record, contribution(state.session_id, ()))
    state.close()
    return outcome


def _acknowledged(state: DeviceState, session: Session, step: str, request: bytes) -> tuple[DeviceState, bytes]:
    position = session.position(state.device_id)
    reply = pb.PlainStep(session_id=session.session_id, step=step, members=[position]).SerializeToString()
    return replace(state, request_sha256=sha256(request), reply=reply), reply


def _read_step(state: DeviceState, step: str, message: bytes) -> tuple[Session, tuple[int, ...]]:
    """The session and the set of positions in a server's message, which must hold this device."""
    assert state.session is not None
    session, request = state.session, parse(pb.PlainStep, message)
    if request.session_id != session.session_id or request.step != step:
        raise MessageError(f"the message belongs to another session, or to {request.step!r} instead of {step!r}")
    members = check_positions("the set of members", request.members, session.n)
    if session.position(state.device_id) not in members:
        raise RefusedError(f"{members} leave this device out")
    return session, members


def _check_cohort(session: Session, members: tuple[int, ...]) -> None:
    if len(members) < session.config.n_min:
        raise RefusedError(f"{len(members)} devices are fewer than n_min, which is {session.config.n_min}")


def _check_bundle(device_id: str, data: bytes) -> None:
    bundle = parse(pb.PlainBundle, data)
    check_size("the nonce", bundle.nonce, NONCE_BYTES)
    if bundle.suite != SUITE or check_id("the device's name", bundle.device_id) != device_id:
        raise MessageError(f"the bundle is that of {bundle.device_id!r} for {bundle.suite!r}")


def _ask(state: ServerState, receivers: tuple[int, ...], step: str, members: tuple[int, ...]) -> dict[str, bytes]:
    message = pb.PlainStep(session_id=state.session_id, step=step, members=members).SerializeToString()
    return dict.fromkeys(state.names(receivers), message)


def _take(state: ServerState, device_id: str, reply: bytes, *, stage: Stage, expected: Collection[int], step: str) -> int:
    """The position of a device that acknowledges ``step``."""
    with blaming(device_id):
        position = state.sender(device_id, stage, expected)
        if not state.repeated(position, reply):
            message = parse(pb.PlainStep, reply)
            if (message.session_id, message.step, list(message.members)) != (state.session_id, step, [position]):
                raise MessageError(f"this does not acknowledge {step!r} for {device_id} in this session")
            state.accept(position, reply)
        return position
