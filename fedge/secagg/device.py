"""A device's side of the protocol `cohort-secagg-v2`: state and message in, state and reply out. No I/O, no clock.

Store the new state before the reply leaves the device. The same request again gets the same reply; another one in its
place is refused. Once a vector was masked, its update is spent (`DeviceState.spent`): never mask it again, whatever became
of the session. Errors leave the state as it was.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedge.secagg import keys
from fedge.secagg.bundle import NONCE_BYTES, OwnSecrets, sign_bundle
from fedge.secagg.codec import Vector, dtype_of
from fedge.secagg.complaint import sign_complaint
from fedge.secagg.device_state import DeviceState, Phase
from fedge.secagg.errors import MessageError, RefusedError, StageError
from fedge.secagg.masks import apply_masks
from fedge.secagg.policy import DevicePolicy, accept_roster
from fedge.secagg.range_claim import RangeClaim, prove_vector, require_claim
from fedge.secagg.session import Session
from fedge.secagg.sharing import check_inbound, deal, decrypt, held_share, inbound_key
from fedge.secagg.wire import check_positions, parse, sha256, vector_from, vector_hash
from protos.fedge.secagg.v1 import secagg_pb2 as pb


def create_bundle(
    identity_key: Ed25519PrivateKey,
    device_id: str,
    certificate_der: bytes,
    *,
    now: float,
    expires: float,
    entropy: Callable[[int], bytes],
) -> tuple[DeviceState, bytes]:
    """Step 0: fresh keys, and the bundle that checks the device in. ``entropy(k)`` gives k random bytes (os.urandom)."""
    if not expires > now:
        raise MessageError(f"a bundle that expires at {expires} is useless now, at {now}")
    secrets = OwnSecrets(entropy(32), entropy(32), entropy(32), entropy(32))
    bundle = sign_bundle(identity_key, device_id, certificate_der, secrets, nonce=entropy(NONCE_BYTES), expires=expires)
    state = DeviceState(phase=Phase.BUNDLED, device_id=device_id, bundle=bundle, identity_key=identity_key, secrets=secrets)
    return state, bundle


def handle_roster(state: DeviceState, message: bytes, policy: DevicePolicy) -> tuple[DeviceState, bytes]:
    """Steps 1 and 2: checks the descriptor and the cohort, consumes the bundle, deals shares to every member."""
    if state.repeats(Phase.SHARED, message):
        return state, state.reply
    state.require(Phase.BUNDLED)
    if state.secrets is None:
        raise StageError("the device checked in without keys, to a session in which nothing is private")
    session = accept_roster(message, policy, device_id=state.device_id, bundle=state.bundle)
    reply, kept = deal(session, session.position(state.device_id), state.secrets, state.identity_key)
    data = reply.SerializeToString()
    return _answered(replace(state, phase=Phase.SHARED, session=session, held=(kept,)), message, data), data


def handle_shares(
    state: DeviceState, message: bytes, encoded: Vector, claim: RangeClaim | None = None
) -> tuple[DeviceState, bytes, Vector | None]:
    """Step 3: checks everyone's shares, then masks ``encoded`` [m] and, where the task asks for it, proves ``claim``.

    The vector is None where the reply is a complaint. On a repeated request the stored vector is sent again and ``encoded``
    is not looked at: one session masks one vector.
    """
    if state.repeats(Phase.MASKED, message):
        assert state.session is not None
        return state, state.reply, np.frombuffer(state.vector, dtype=dtype_of(state.session.config))
    if state.repeats(Phase.COMPLAINED, message):
        return state, state.reply, None
    state.require(Phase.SHARED)
    session, secrets = state.session, state.secrets
    assert session is not None
    if secrets is None:
        raise StageError("the device shared no keys: it is in a session in which nothing is private")
    claim = require_claim(session.descriptor.task, claim)
    own = session.position(state.device_id)
    sharers, inbound = _read_delivery(session, own, message)
    vector = vector_from(encoded, session.config).copy()
    held, channel = list(state.held), keys.private_key_of(secrets.channel_key)
    for dealer, dealt in inbound.items():
        key = inbound_key(session, own, dealer, channel)
        plaintext = decrypt(session, own, dealer, dealt.share, key)
        share = None if plaintext is None else held_share(session, own, dealer, dealt.share, plaintext)
        if share is None:
            reply = sign_complaint(session, own, dealer, dealt, key=key, identity_key=state.identity_key)
            return _answered(replace(state, phase=Phase.COMPLAINED, secrets=None, held=()), message, reply), reply, None
        held.append(share)
    added, subtracted = _mask_keys(session, own, sharers, secrets)
    proof = b""
    if claim is not None:
        seed = secrets.dealing_seed
        proof = prove_vector(claim, session, own, sharers, vector, added=added, subtracted=subtracted, dealing_seed=seed)
    apply_masks(vector, added=added, subtracted=subtracted)
    body = pb.MaskedVector(
        session_id=session.session_id,
        device=own,
        sharers_sha256=session.set_hash(sharers),
        vector_blake2b=vector_hash(vector),
        range_proof_sha256=b"" if claim is None else sha256(proof),
    ).SerializeToString()
    signed = pb.Signed(body=body, signature=keys.sign(state.identity_key, "vector", body))
    reply = pb.MaskedReply(vector=signed, range_proof=proof).SerializeToString()
    held.sort(key=lambda share: share.dealer)
    masked = replace(state, phase=Phase.MASKED, secrets=None, sharers=sharers, held=tuple(held), vector=vector.tobytes())
    return _answered(masked, message, reply), reply, vector


def handle_consistency(state: DeviceState, message: bytes) -> tuple[DeviceState, bytes]:
    """Step 4: signs the one set of survivors that this device will ever agree to."""
    if state.repeats(Phase.AGREED, message):
        return state, state.reply
    state.require(Phase.MASKED)
    assert state.session is not None
    session, body = state.session, parse(pb.ConsistencyRequest, message).consistency
    survivors = _read_consistency(state, session, body)
    own = session.position(state.device_id)
    if own not in survivors or not set(survivors) <= set(state.sharers):
        raise RefusedError(f"the survivors {survivors} leave this device ({own}) out or are not all among {state.sharers}")
    if len(survivors) < session.config.n_min:
        raise RefusedError(f"{len(survivors)} devices delivered, fewer than n_min, which is {session.config.n_min}")
    reply = pb.ConsistencyReply(signature=keys.sign(state.identity_key, "consistency", body)).SerializeToString()
    return _answered(replace(state, phase=Phase.AGREED, survivors=survivors, vector=b""), message, reply), reply


def handle_unmask(state: DeviceState, message: bytes) -> tuple[DeviceState, bytes]:
    """Step 5: on t_c signatures for the same survivors, reveals one share of each sharer, then erases all secrets."""
    if state.repeats(Phase.REVEALED, message):
        return state, state.reply
    state.require(Phase.AGREED)
    assert state.session is not None
    session, request = state.session, parse(pb.UnmaskRequest, message)
    if _read_consistency(state, session, request.consistency) != state.survivors:
        raise RefusedError("the survivors are not the ones that this device signed")
    signers = {endorsement.device for endorsement in request.endorsements}
    if len(signers) != len(request.endorsements) or not signers <= set(state.survivors):
        raise RefusedError("an endorsement stands twice or is not a survivor's")
    if len(signers) < session.t:
        raise RefusedError(f"{len(signers)} endorsements, it takes {session.t}")
    for endorsement in request.endorsements:
        key = session.member(endorsement.device).identity_key
        keys.verify(key, "consistency", request.consistency, endorsement.signature)
    reply = pb.UnmaskReply(session_id=session.session_id, device=session.position(state.device_id))
    for share in state.held:
        if share.dealer in state.survivors:
            reply.seeds.add(dealer=share.dealer, share=share.seed_share, salt=share.seed_salt)
        else:
            reply.keys.add(dealer=share.dealer, share=share.key_share, salt=share.key_salt)
    data = reply.SerializeToString()
    return _answered(replace(state, phase=Phase.REVEALED, held=()), message, data), data


def erase(state: DeviceState) -> DeviceState:
    """Gives the session up: no secrets and no replies are left, and every message is refused from now on."""
    return replace(state, phase=Phase.ERASED, secrets=None, held=(), vector=b"", reply=b"", request_sha256=b"")


def expire(state: DeviceState, *, now: float) -> DeviceState:
    """The state at ``now``: erased where the session's deadline has passed."""
    return erase(state) if state.deadline is not None and now >= state.deadline else state


def _answered(state: DeviceState, request: bytes, reply: bytes) -> DeviceState:
    return replace(state, request_sha256=sha256(request), reply=reply)


def _read_delivery(session: Session, own: int, message: bytes) -> tuple[tuple[int, ...], dict[int, pb.InboundShare]]:
    """U1 and what each other sharer dealt to this device. What is wrong here is the server's doing: a refusal."""
    delivery = parse(pb.ShareDelivery, message)
    if delivery.session_id != session.session_id:
        raise MessageError("the shares belong to another session")
    sharers = check_positions("U1", delivery.sharers, session.n)
    if own not in sharers:
        raise RefusedError(f"this device ({own}) is not among those who shared: {sharers}")
    if len(sharers) < session.config.n_min:
        raise RefusedError(f"{len(sharers)} devices shared, fewer than n_min, which is {session.config.n_min}")
    dealers = [position for position in sharers if position != own]
    if len(dealers) != len(delivery.inbound):
        raise MessageError(f"{len(delivery.inbound)} shares came from {len(dealers)} dealers")
    inbound = dict(zip(dealers, delivery.inbound, strict=True))
    for dealer, dealt in inbound.items():
        check_inbound(session, own, dealer, dealt)
    return sharers, inbound


def _mask_keys(session: Session, own: int, sharers: tuple[int, ...], secrets: OwnSecrets) -> tuple[list[bytes], list[bytes]]:
    """Keys of the streams to add (the device's own, those shared with lower sharers) and to subtract (with higher ones)."""
    name = session.member(own).device_id
    added = [keys.self_mask_key(secrets.seed, session_id=session.session_id, device_id=name)]
    subtracted: list[bytes] = []
    mask_key = keys.private_key_of(secrets.mask_key)
    for position in sharers:
        if position == own:
            continue
        peer = session.member(position)
        agreed = keys.agree(mask_key, peer.mask_key)
        key = keys.pair_mask_key(agreed, session_id=session.session_id, first=name, second=peer.device_id)
        (added if position < own else subtracted).append(key)
    return added, subtracted


def _read_consistency(state: DeviceState, session: Session, body: bytes) -> tuple[int, ...]:
    """U2 of a serialized Consistency, which must be about this session and this device's U1."""
    consistency = parse(pb.Consistency, body)
    if consistency.session_id != session.session_id:
        raise MessageError("the survivors belong to another session")
    if consistency.sharers_sha256 != session.set_hash(state.sharers):
        raise RefusedError("the aggregator told others of another set of sharers")
    return check_positions("U2", consistency.survivors, session.n)
