"""What the server has at the end of a run, alone and with floor((n-1)/3) colluders: shares that fall short, and the sum.

The attacker here holds every byte that the server received and the whole state of its colluders at each step. It unmasks
one honest device if it gets both that device's mask seed and the masks it shares with other honest devices; the tests count
what it has of each.
"""

from collections import Counter

import numpy as np
import pytest
from flwr.common.secure_aggregation import secaggplus_utils
from secagg_cohort import Cohort, private_key

from fedge import secagg
from fedge.secagg import RefusedError, keys, masks, shamir
from fedge.secagg.masks import key_stream
from protos.fedge.secagg.v1 import secagg_pb2 as pb


class Attacker:
    """Gathers the shares that are in the server's hands: revealed ones, and all that its colluders hold."""

    def __init__(self, cohort: Cohort, colluders: list[str]) -> None:
        self.cohort, self.colluders = cohort, colluders
        self.shares: dict[tuple[str, int], dict[int, bytes]] = {}

    def collude(self, states) -> None:
        for name in self.colluders:
            receiver = self.cohort.names.index(name) + 1
            for held in states[name].held:
                self._note("seed", held.dealer, receiver, held.seed_share)
                self._note("key", held.dealer, receiver, held.key_share)

    def read_replies(self) -> None:
        for _name, kind, data in self.cohort.view:
            if kind == "unmask":
                reply = pb.UnmaskReply.FromString(data)
                for label, revealed in (("seed", reply.seeds), ("key", reply.keys)):
                    for share in revealed:
                        self._note(label, share.dealer, reply.device, share.share)

    def _note(self, kind, dealer, receiver, share) -> None:
        self.shares.setdefault((kind, dealer), {})[receiver] = share

    def count(self, kind: str, name: str) -> int:
        return len(self.shares.get((kind, self.cohort.names.index(name) + 1), {}))

    def combine(self, kind: str, name: str) -> bytes | None:
        """The best guess at a secret: interpolation through all shares at hand."""
        shares = self.shares[kind, self.cohort.names.index(name) + 1]
        points = sorted(shares)[: self.cohort.server.session.t]
        coefficients = shamir.coefficients_at_zero(points, len(self.cohort.names))
        return shamir.combine([shares[point] for point in points], coefficients)


def attacked(n: int, colluders: int, dropped: list[int]):
    """A run in which the last ``colluders`` devices work for the server and ``dropped`` ones never deliver."""
    cohort = Cohort(n, one_hot=True)
    names = cohort.names
    lost = [names[index] for index in dropped]
    attacker = Attacker(cohort, names[n - colluders :])
    request = cohort.mask(cohort.share(cohort.open()), without=lost)
    attacker.collude(cohort.states)
    secrets = {name: cohort.states[name] for name in names}
    outcome = cohort.unmask(cohort.agree(request))
    attacker.read_replies()
    return cohort, attacker, outcome, secrets


@pytest.mark.parametrize(("n", "dropped"), [(4, []), (7, []), (7, [0]), (10, [0, 1]), (13, [3])])
def test_the_mask_key_of_a_survivor_and_the_seed_of_a_dropped_device_stay_out_of_reach(n, dropped):
    corrupt = (n - 1) // 3
    cohort, attacker, outcome, _ = attacked(n, corrupt, dropped)
    t = cohort.server.session.t
    honest = cohort.names[: n - corrupt]
    for name in honest:
        open_secret, closed_secret = ("seed", "key") if name in outcome.survivors else ("key", "seed")
        assert attacker.count(open_secret, name) >= t, "this one the protocol opens"
        assert attacker.count(closed_secret, name) == corrupt < t, "of the other one it has its colluders' shares only"


def test_fewer_than_t_shares_do_not_interpolate_to_the_key_and_t_would():
    n, corrupt = 7, 2
    cohort = Cohort(n, one_hot=True)
    delivery = cohort.share(cohort.open())
    secret = cohort.states["device-01"].secrets.mask_key
    cohort.mask(delivery)
    attacker = Attacker(cohort, cohort.names[n - corrupt :])
    attacker.collude(cohort.states)
    assert attacker.combine("key", "device-01") != secret
    control = Attacker(cohort, cohort.names[-5:])
    control.collude(cohort.states)
    assert control.combine("key", "device-01") == secret, "the attack works where it may: with t colluders"


def test_removing_every_mask_that_the_attacker_knows_leaves_honest_vectors_hidden_and_their_sum_right():
    n, corrupt, length = 7, 2, 8
    cohort, attacker, _outcome, _ = attacked(n, corrupt, [])
    session = cohort.server.session
    vectors = {name: np.frombuffer(data, dtype="<u4") for name, kind, data in cohort.view if kind == "vector"}
    honest = cohort.names[: n - corrupt]
    peeled = {}
    for name in honest:
        position = session.position(name)
        rest = vectors[name].copy()
        seed = attacker.combine("seed", name)
        own = keys.self_mask_key(seed, session_id=session.session_id, device_id=name)
        rest -= np.frombuffer(key_stream(own, 4 * length), dtype="<u4")
        for colluder in attacker.colluders:
            # A colluder agrees with the honest device's public key: the attacker knows this mask.
            private = keys.private_key_of(colluder_mask_key(cohort, colluder))
            agreed = keys.agree(private, session.member(position).mask_key)
            pair = keys.pair_mask_key(agreed, session_id=session.session_id, first=name, second=colluder)
            rest += np.frombuffer(key_stream(pair, 4 * length), dtype="<u4")
        peeled[name] = rest
    for name in honest:
        assert not np.array_equal(peeled[name], cohort.vectors[name])
        assert np.count_nonzero(peeled[name] > 2) >= length - 1, "what is left is a mask, not a one-hot vector"
    total = sum(peeled.values(), np.zeros(length, dtype="<u4"))
    np.testing.assert_array_equal(total, cohort.sum_of(honest), "their sum is all that the masks give away")
    for size in range(1, len(honest)):
        partial = sum((peeled[name] for name in honest[:size]), np.zeros(length, dtype="<u4"))
        assert not np.array_equal(partial, cohort.sum_of(honest[:size])), "no smaller sum comes out"


def colluder_mask_key(cohort, name):
    """A colluder never erases: its key is found again by repeating its check-in with the cohort's seed."""
    again = Cohort(len(cohort.names), one_hot=True)
    again.check_in()
    return again.states[name].secrets.mask_key


def test_a_second_sum_without_one_device_is_refused_by_every_honest_device():
    # Two sums that differ in one device give that device's vector by subtraction.
    cohort = Cohort(7, one_hot=True)
    request = cohort.mask(cohort.share(cohort.open()))
    cohort.unmask(cohort.agree(request))
    session = cohort.server.session
    body = pb.Consistency(
        session_id=session.session_id, sharers_sha256=session.set_hash(range(1, 8)), survivors=range(1, 7)
    ).SerializeToString()
    forged = pb.UnmaskRequest(consistency=body)
    for position, name in enumerate(cohort.names[:6], start=1):
        forged.endorsements.add(device=position, signature=keys.sign(private_key(name), "consistency", body))
    for name in cohort.names[:6]:
        with pytest.raises(secagg.StageError):
            secagg.handle_unmask(cohort.states[name], forged.SerializeToString())


def test_a_server_that_tells_two_groups_of_two_sets_gets_shares_from_neither():
    # It would learn both secrets of device 7: its seed from the group that counts it, its key from the other.
    cohort = Cohort(7, one_hot=True)
    cohort.mask(cohort.share(cohort.open()))
    session = cohort.server.session

    def consistency(survivors):
        return pb.Consistency(
            session_id=session.session_id, sharers_sha256=session.set_hash(range(1, 8)), survivors=survivors
        ).SerializeToString()

    with_it, without_it = consistency(range(1, 8)), consistency(range(1, 7))
    signatures = {}
    for position, name in enumerate(cohort.names[:5], start=1):
        body = with_it if position <= 2 else without_it
        request = pb.ConsistencyRequest(consistency=body).SerializeToString()
        reply = pb.ConsistencyReply.FromString(cohort.consistency_reply(name, request))
        signatures[position] = reply.signature
    for position, name in enumerate(cohort.names[5:], start=6):  # two colluders sign whatever is asked for
        signatures[position] = {body: keys.sign(private_key(name), "consistency", body) for body in (with_it, without_it)}
    for body, group in ((with_it, (1, 2)), (without_it, (3, 4, 5))):
        request = pb.UnmaskRequest(consistency=body)
        colluders = [position for position in (6, 7) if body == with_it or position == 6]
        for position in (*group, *colluders):
            signature = signatures[position] if position in group else signatures[position][body]
            request.endorsements.add(device=position, signature=signature)
        assert len(request.endorsements) < session.t
        for position in group:
            with pytest.raises(RefusedError, match=r"endorsements, it takes 5$"):
                secagg.handle_unmask(cohort.states[cohort.names[position - 1]], request.SerializeToString())


def test_masked_zero_updates_look_uniform():
    # 16 zero vectors of 4,000 values: bytes by chi-square (255 degrees of freedom, mean 255, deviation 22.6), and no
    # linear recurrence in the lowest bits (Berlekamp-Massey finds half the length for random bits).
    cohort = Cohort(16, reals=0, integers=4_000)
    for name in cohort.names:
        cohort.vectors[name] = secagg.encode(np.zeros(0), np.zeros(4_000, dtype=int), cohort.config, bytes(32))
    cohort.mask(cohort.share(cohort.open()))
    data = b"".join(data for _, kind, data in cohort.view if kind == "vector")
    counts, mean = Counter(data), len(data) / 256
    chi_square = sum((counts[value] - mean) ** 2 / mean for value in range(256))
    assert abs(chi_square - 255) < 6 * 22.6
    vector = np.frombuffer(data, dtype="<u4")[:1_000]
    assert abs(linear_complexity((vector & 1).tolist()) - 500) <= 20
    assert linear_complexity([1, 0, 0, 1, 0, 1, 1] * 40) == 3, "the measure itself: a register of length 3"


def test_masks_obey_no_recurrence_where_those_of_flower_do():
    # 42,000 lowest bits: a Mersenne Twister, with which flwr 1.4x masks, gives itself away by its degree of 19,937.
    length = 42_000
    vector = np.zeros(length, dtype="<u4")
    masks.apply_masks(vector, added=[bytes(range(32)), bytes(range(1, 33))], subtracted=[bytes(range(2, 34))])
    assert abs(linear_complexity((vector & 1).tolist()) - length // 2) <= 20
    flower = secaggplus_utils.pseudo_rand_gen(bytes(range(32)), 1 << 32, [(length,)])[0]
    assert linear_complexity((flower & 1).tolist()) <= 19_937


def linear_complexity(bits: list[int]) -> int:
    """Length of the shortest linear-feedback register that makes ``bits`` (Berlekamp and Massey, 1969)."""
    connection, previous, length, gap = 1, 1, 0, 1
    window = 0
    for index, bit in enumerate(bits):
        window = (window << 1) | bit
        if (connection & window).bit_count() & 1 == 0:
            gap += 1
            continue
        if 2 * length <= index:
            connection, previous, length, gap = connection ^ (previous << gap), connection, index + 1 - length, 1
        else:
            connection, gap = connection ^ (previous << gap), gap + 1
    return length
