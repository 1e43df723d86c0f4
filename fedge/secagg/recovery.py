"""Step 6: from the shares of t survivors to the sum. Each secret is checked before it is used, the sum before it is out."""

from fedge.secagg import keys, shamir
from fedge.secagg.beacon import contribution
from fedge.secagg.codec import check_total
from fedge.secagg.errors import CodecError
from fedge.secagg.masks import apply_masks
from fedge.secagg.range_claim import check_committed
from fedge.secagg.record import Outcome, sign_record
from fedge.secagg.server_state import ServerState, Stage
from fedge.secagg.sharing import KEY, SEED
from fedge.secagg.wire import sha256


def recover(state: ServerState, *, threads: int = 1) -> Outcome:
    """The sum of the survivors' vectors, unmasked by ``threads`` threads.

    Raises SessionAborted where shares lack, a dealer cheated or the sum cannot be.
    """
    state.require(Stage.UNMASKING)
    session, total = state.session, state.total
    state.require_quorum(len(state.reveals))
    points = sorted(state.reveals)[: session.t]
    coefficients = shamir.coefficients_at_zero(points, session.n)
    added: list[bytes] = []
    seeds: list[bytes] = []
    subtracted: list[bytes] = []
    for position in state.survivors:
        name = state.name(position)
        seed = _secret(state, SEED, position, points=points, coefficients=coefficients)
        if seed is None or sha256(seed) != session.member(position).seed_sha256:
            state.abort(f"the shares that {name} dealt do not give the seed of its mask", exclude=frozenset({name}))
        seeds.append(seed)
        subtracted.append(keys.self_mask_key(seed, session_id=state.session_id, device_id=name))
    for position in sorted(set(state.sharers) - set(state.survivors)):
        name = state.name(position)
        private = _secret(state, KEY, position, points=points, coefficients=coefficients)
        if private is None or keys.public_key_of(private) != session.member(position).mask_key:
            state.abort(f"the shares that {name} dealt do not give its mask key", exclude=frozenset({name}))
        mask_key = keys.private_key_of(private)
        for survivor in state.survivors:
            peer = session.member(survivor)
            agreed = keys.agree(mask_key, peer.mask_key)
            key = keys.pair_mask_key(agreed, session_id=state.session_id, first=name, second=peer.device_id)
            (subtracted if position < survivor else added).append(key)
    apply_masks(total, added=added, subtracted=subtracted, threads=threads)
    try:
        check_total(total, len(state.survivors), session.config)
        if state.claim is not None:
            commitments = state.commitments
            check_committed(state.claim, session.config, total, commitments, removed=subtracted, restored=added)
    except CodecError as error:
        state.abort(str(error), is_spoiled=True)
    record = sign_record(session, total, len(state.survivors), state.round_key)
    outcome = Outcome(total, state.names(state.survivors), record, contribution(state.session_id, seeds))
    state.close()
    return outcome


def _secret(state: ServerState, kind: str, dealer: int, *, points: list[int], coefficients: list[int]) -> bytes | None:
    """What the shares of a dealer's secret at ``points`` give: None or a wrong one where it dealt inconsistently."""
    shares = []
    for point in points:
        revealed = state.reveals[point].seeds if kind == SEED else state.reveals[point].keys
        shares.append(next(share.share for share in revealed if share.dealer == dealer))
    return shamir.combine(shares, coefficients)
