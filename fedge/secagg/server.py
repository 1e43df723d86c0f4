"""The server's side of the protocol `cohort-secagg-v2`, steps 1 to 5: it relays, counts and adds up masked vectors.

A bad reply raises an error that blames its device and changes nothing: drop the device and go on. Where too few are left,
the next `create_*` raises SessionAborted. Each `create_*` closes the stage before it: call it when all answered or the
time is up.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from fedge.secagg import keys
from fedge.secagg.bundle import SUITE, CertificateVerifier, Member, check_distinct, read_bundle
from fedge.secagg.codec import dtype_of
from fedge.secagg.complaint import judge_complaint
from fedge.secagg.config import SessionConfig
from fedge.secagg.errors import MessageError, SecAggError, SessionAborted, blaming
from fedge.secagg.range_claim import RangeClaim, require_claim, verify_proof
from fedge.secagg.server_state import ServerState, Stage
from fedge.secagg.session import DESCRIPTOR_NONCE_BYTES, Descriptor, Session, Task
from fedge.secagg.sharing import KEY, SEED, check_share_reply, commitment
from fedge.secagg.wire import parse, sha256, vector_from, vector_hash
from protos.fedge.secagg.v1 import secagg_pb2 as pb


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
    """Step 1: fixes the cohort, and the roster message for each member of it.

    ``claim`` is what devices prove of their vectors, for a task that asks for it.
    A device whose bundle does not hold is left out and named in ``ServerState.refused``. Raises SessionAborted where fewer
    than n_min are left, or more than n_max were given.
    """
    claim = require_claim(task, claim)
    members, refused = _read_bundles(bundles, verify_certificate=verify_certificate, now=now)
    descriptor = Descriptor(
        suite=SUITE,
        run=run,
        round=round,
        attempt=attempt,
        task=task,
        config=config,
        roster=tuple((member.device_id, sha256(bundles[member.device_id])) for member in members),
        nonce=entropy(DESCRIPTOR_NONCE_BYTES),
    )
    taken = [bundles[member.device_id] for member in members]
    state, messages = open_session(descriptor, taken, round_key=round_key, members=members, refused=refused)
    state.claim = claim
    return state, messages


def open_session(
    descriptor: Descriptor,
    bundles: Sequence[bytes],
    *,
    round_key: Ed25519PrivateKey,
    members: tuple[Member, ...],
    refused: dict[str, SecAggError],
) -> tuple[ServerState, dict[str, bytes]]:
    """The state of a session and its roster messages. ``bundles`` are shown to all members, in the order of the roster."""
    config, n = descriptor.config, len(descriptor.roster)
    if not config.n_min <= n <= config.cohort_max:
        blame = "; ".join(str(error) for error in refused.values()) or "no bundle was refused"
        reason = f"{n} devices, expected {config.n_min} to {config.cohort_max} ({blame})"
        raise SessionAborted("roster", reason, exclude=frozenset(refused))
    data = descriptor.to_bytes()
    signature = keys.sign(round_key, "descriptor", data)
    message = pb.Roster(descriptor=data, signature=signature, bundles=bundles).SerializeToString()
    total = np.zeros(config.length, dtype=dtype_of(config))
    state = ServerState(session=Session.of(data, members), round_key=round_key, total=total, refused=refused)
    return state, dict.fromkeys((name for name, _ in descriptor.roster), message)


def handle_roster_reply(state: ServerState, device_id: str, reply: bytes) -> None:
    """Step 2: takes a device's dealing."""
    with blaming(device_id):
        position = state.sender(device_id, Stage.SHARING, range(1, state.session.n + 1))
        if state.repeated(position, reply):
            return
        message = parse(pb.ShareReply, reply)
        check_share_reply(state.session, position, message)
        state.dealings[position] = message
        state.accept(position, reply)


def create_share_messages(state: ServerState) -> dict[str, bytes]:
    """Step 3: closes U1 and hands each of its members what the others dealt to it."""
    state.require(Stage.SHARING)
    state.require_cohort(len(state.dealings))
    state.sharers = tuple(sorted(state.dealings))
    state.stage = Stage.MASKING
    messages = {}
    for receiver in state.sharers:
        delivery = pb.ShareDelivery(session_id=state.session_id, sharers=state.sharers)
        for dealer in state.sharers:
            if dealer != receiver:
                dealing = state.dealings[dealer]
                delivery.inbound.add(dealing=dealing.dealing, share=dealing.shares[receiver - 1])
        messages[state.name(receiver)] = delivery.SerializeToString()
    return messages


def handle_masked(state: ServerState, device_id: str, reply: bytes, vector: NDArray[Any] | bytes | None) -> None:
    """Step 3: adds a masked vector (an array, or raw little-endian bytes) to the sum, or notes a complaint."""
    with blaming(device_id):
        position = state.sender(device_id, Stage.MASKING, state.sharers)
        if state.repeated(position, reply):
            return
        message = parse(pb.MaskedReply, reply)
        match message.WhichOneof("kind"):
            case "complaint":
                state.complaints[position] = judge_complaint(state.session, position, message.complaint)
            case "vector":
                _add_vector(state, position, message, vector)
            case _:
                raise MessageError("the reply holds neither a vector nor a complaint")
        state.accept(position, reply)


def create_consistency_messages(state: ServerState) -> dict[str, bytes]:
    """Step 4: closes U2 and asks each of its members to sign it. A proven complaint ends the session here."""
    state.require(Stage.MASKING)
    if any(proven for _, proven in state.complaints.values()):
        dealers = frozenset(state.name(dealer) for dealer, proven in state.complaints.values() if proven)
        state.abort(f"{', '.join(sorted(dealers))} dealt bad shares", exclude=dealers)
    state.require_cohort(len(state.delivered))
    state.survivors = tuple(sorted(state.delivered))
    state.stage = Stage.AGREEING
    state.consistency = pb.Consistency(
        session_id=state.session_id, sharers_sha256=state.session.set_hash(state.sharers), survivors=state.survivors
    ).SerializeToString()
    message = pb.ConsistencyRequest(consistency=state.consistency).SerializeToString()
    return dict.fromkeys(state.names(state.survivors), message)


def handle_consistency_reply(state: ServerState, device_id: str, reply: bytes) -> None:
    """Step 4: takes a survivor's signature on U2."""
    with blaming(device_id):
        position = state.sender(device_id, Stage.AGREEING, state.survivors)
        if state.repeated(position, reply):
            return
        signature = parse(pb.ConsistencyReply, reply).signature
        keys.verify(state.session.member(position).identity_key, "consistency", state.consistency, signature)
        state.endorsements[position] = signature
        state.accept(position, reply)


def create_unmask_messages(state: ServerState) -> dict[str, bytes]:
    """Step 5: shows t_c signatures to everyone who signed, and asks for their shares."""
    state.require(Stage.AGREEING)
    state.require_quorum(len(state.endorsements))
    state.stage = Stage.UNMASKING
    signers = sorted(state.endorsements)
    request = pb.UnmaskRequest(
        consistency=state.consistency,
        endorsements=[
            pb.Endorsement(device=signer, signature=state.endorsements[signer]) for signer in signers[: state.session.t]
        ],
    )
    return dict.fromkeys(state.names(signers), request.SerializeToString())


def handle_unmask_reply(state: ServerState, device_id: str, reply: bytes) -> None:
    """Step 5: takes a survivor's shares, each checked against its dealer's commitment."""
    with blaming(device_id):
        position = state.sender(device_id, Stage.UNMASKING, state.endorsements)
        if state.repeated(position, reply):
            return
        message = parse(pb.UnmaskReply, reply)
        if message.session_id != state.session_id or message.device != position:
            raise MessageError("the shares belong to another session or device")
        dropped = [dealer for dealer in state.sharers if dealer not in state.survivors]
        _check_shares(state, position, SEED, list(state.survivors), list(message.seeds))
        _check_shares(state, position, KEY, dropped, list(message.keys))
        state.reveals[position] = message
        state.accept(position, reply)


def _read_bundles(
    bundles: Mapping[str, bytes], *, verify_certificate: CertificateVerifier, now: float
) -> tuple[tuple[Member, ...], dict[str, SecAggError]]:
    members: list[Member] = []
    refused: dict[str, SecAggError] = {}
    trial = keys.private_key_of(sha256(b"fedge/sa/2/any private key shows a public key of small order"))
    for device_id in sorted(bundles, key=str.encode):
        try:
            with blaming(device_id):
                member = read_bundle(bundles[device_id], verify_certificate=verify_certificate, now=now)
                if member.device_id != device_id:
                    raise MessageError(f"the bundle is that of {member.device_id}")
                keys.agree(trial, member.mask_key)
                keys.agree(trial, member.channel_key)
                check_distinct((*members, member))
            members.append(member)
        except SecAggError as error:
            refused[device_id] = error
    return tuple(members), refused


def _add_vector(state: ServerState, position: int, reply: pb.MaskedReply, data: NDArray[Any] | bytes | None) -> None:
    signed, session = reply.vector, state.session
    keys.verify(state.session.member(position).identity_key, "vector", signed.body, signed.signature)
    body = parse(pb.MaskedVector, signed.body)
    if body.session_id != state.session_id or body.device != position:
        raise MessageError("the vector belongs to another session or device")
    if body.sharers_sha256 != state.session.set_hash(state.sharers):
        raise MessageError("the vector was masked for another set of sharers")
    vector = vector_from(data, state.session.config)
    if body.vector_blake2b != vector_hash(vector):
        raise MessageError("the vector is not the one that was signed")
    proof, digest = reply.range_proof, body.range_proof_sha256
    commitment = verify_proof(state.claim, session, position, state.sharers, proof=proof, digest=digest)
    if state.claim is not None:
        state.commitments[position] = commitment
    np.add(state.total, vector, out=state.total)
    state.delivered.add(position)


def _check_shares(
    state: ServerState, receiver: int, kind: str, dealers: list[int], revealed: list[pb.RevealedShare]
) -> None:
    if [share.dealer for share in revealed] != dealers:
        raise MessageError(f"{kind} shares must be those of {dealers}")
    for share in revealed:
        dealt = state.dealings[share.dealer].shares[receiver - 1]
        opened = commitment(
            state.session, dealer=share.dealer, receiver=receiver, kind=kind, share=share.share, salt=share.salt
        )
        if opened != (dealt.seed_commitment if kind == SEED else dealt.key_commitment):
            raise MessageError(f"the {kind} share of position {share.dealer} is not the one that was dealt")
