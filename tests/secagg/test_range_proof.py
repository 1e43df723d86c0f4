"""Range proofs: what honest devices prove holds, and nothing else verifies."""

import hashlib
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings as sodium

from fedge.errors import InputError
from fedge.secagg import range_proof as rp
from fedge.secagg.errors import CodecError, MessageError
from fedge.secagg.keys import prefixed
from fedge.secagg.range_proof import ORDER, Statement, Total

CONTEXT = b"session 1, device 3"
ENTROPY = bytes(range(32))
# 3 pairs (agreed, disagreed), each count at most 8, all of them together at most 8.
COUNTS = Statement((8,) * 6, (Total(tuple(range(6)), 8),))
# Small and large ranges, a total over both, and one over large ones alone.
MIXED = Statement((5, 64, 65, 4_095), (Total((0, 1), 9), Total((2, 3), 4_097)))
# Points of order 1, 2, 4, 4, 8, 8: https://github.com/jedisct1/libsodium has the same list.
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]
# y = p and y = p + 1: other spellings of y = 0 and y = 1.
NON_CANONICAL = [
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def prove(statement, values, *, blinding=7, context=CONTEXT, entropy=ENTROPY):
    return rp.prove(statement, values, blinding=blinding, context=context, entropy=entropy)


def elements(proof):
    return [proof[at : at + 32] for at in range(0, len(proof), 32)]


def replaced(proof, index, element):
    parts = elements(proof)
    parts[index] = element
    return b"".join(parts)


def scalar(number):
    return (number % ORDER).to_bytes(32, "little")


def times(number, point):
    return sodium.crypto_scalarmult_ed25519_noclamp(scalar(number), point) if number % ORDER else bytes([1]) + bytes(31)


def commit(numbers, kind, blinding):
    """A commitment written down a second time, from the description of the protocol."""
    total = sodium.crypto_scalarmult_ed25519_base_noclamp(scalar(blinding))
    for index, number in enumerate(numbers):
        name = prefixed(b"fedge/sa/2/range/base", kind, index.to_bytes(4, "big"))
        point = sodium.crypto_core_ed25519_from_uniform(hashlib.sha512(name).digest()[:32])
        total = sodium.crypto_core_ed25519_add(total, times(number, point))
    return total


def challenge(label, *parts):
    return int.from_bytes(hashlib.sha512(prefixed(b"fedge/sa/2/range/" + label, *parts)).digest(), "little") % ORDER


def polynomial_product(factors):
    product = [1]
    for constant, slope in factors:  # constant + slope x
        product = [(low * constant + high * slope) % ORDER for low, high in zip([*product, 0], [0, *product], strict=True)]
    return product


def prove_anything(statement, values, *, blinding, context=CONTEXT, seed=1):
    """A prover that follows the protocol for values that may lie outside their ranges (all of them single digits)."""
    draw = random.Random(seed).randrange
    limits = [*statement.limits, *(total.limit for total in statement.totals)]
    degree = max(limits) + 1
    numbers = [*values, *(total.limit - sum(values[member] for member in total.members) for total in statement.totals)]
    masks = [draw(ORDER) for _ in values]
    masks += [-sum(masks[member] for member in total.members) for total in statement.totals]
    own_mask = draw(ORDER)
    opening = [commit(numbers, b"value", blinding), commit(masks, b"value", own_mask)]
    first = challenge(b"first", context, statement.to_bytes(), *opening)
    coefficients = [0] * (degree + 1)
    for index, (number, mask, limit) in enumerate(zip(numbers, masks, limits, strict=True)):
        factors = [(mask, number - k) for k in range(limit + 1)] + [(0, 1)] * (degree - 1 - limit)
        for order, coefficient in enumerate(polynomial_product(factors)):
            coefficients[order] += pow(first, index, ORDER) * coefficient
    blindings = [draw(ORDER) for _ in range(degree)]
    lower = [commit([coefficients[order]], b"coefficient", blindings[order]) for order in range(degree)]
    x = challenge(b"second", scalar(first), *lower)
    responses = [number * x + mask for number, mask in zip(values, masks, strict=False)]
    responses += [blinding * x + own_mask, sum(own * pow(x, order, ORDER) for order, own in enumerate(blindings))]
    return b"".join([*opening, *lower, *map(scalar, responses)])


def accepts(statement, proof, context=CONTEXT):
    try:
        rp.verify(statement, proof, context=context)
    except MessageError:
        return False
    return True


class TestHonest:
    @settings(max_examples=20)
    @given(data=st.data())
    def test_what_holds_is_proved_and_its_sum_checks(self, data):
        statement = data.draw(st.sampled_from([COUNTS, MIXED, Statement((1,)), Statement((3, 2), (Total((1,), 1),))]))
        left = [total.limit for total in statement.totals]
        cohort = []
        for _ in range(data.draw(st.integers(1, 3))):
            room, values = list(left), []
            for index, limit in enumerate(statement.limits):
                mine = [at for at, total in enumerate(statement.totals) if index in total.members]
                values.append(data.draw(st.integers(0, min([limit, *(room[at] for at in mine)]))))
                for at in mine:
                    room[at] -= values[-1]
            cohort.append((values, data.draw(st.integers(1, ORDER - 1))))  # 0 has probability 2^-252
        proofs = [prove(statement, values, blinding=blinding) for values, blinding in cohort]
        assert {len(proof) for proof in proofs} == {statement.proof_bytes}
        commitments = [rp.verify(statement, proof, context=CONTEXT) for proof in proofs]
        sums = [sum(column) for column in zip(*(values for values, _ in cohort), strict=True)]
        rp.check_sum(statement, commitments, sums, blinding=sum(blinding for _, blinding in cohort) % ORDER)

    @pytest.mark.parametrize("limit", [1, 2, 63, 64, 65, 127, 128, 4_095, 4_096, 100_000, rp.LARGEST_LIMIT])
    def test_both_ends_of_a_range_are_proved_and_what_lies_beyond_is_not_attempted(self, limit):
        statement = Statement((limit,))
        for value in (0, limit // 2, limit):
            rp.verify(statement, prove(statement, [value]), context=CONTEXT)
        for value in (-1, limit + 1):
            with pytest.raises(CodecError, match="outside"):
                prove(statement, [value])

    def test_every_value_of_a_range_of_several_digits_is_proved(self):
        statement = Statement((66,))
        for value in range(67):
            commitment = rp.verify(statement, prove(statement, [value]), context=CONTEXT)
            rp.check_sum(statement, [commitment], [value], blinding=7)

    def test_the_protocol_written_down_twice_agrees(self):
        proof = prove_anything(COUNTS, [0, 1, 2, 0, 0, 5], blinding=7)
        commitment = rp.verify(COUNTS, proof, context=CONTEXT)
        assert commitment == prove(COUNTS, [0, 1, 2, 0, 0, 5])[:32] == commit([0, 1, 2, 0, 0, 5, 0], b"value", 7)

    def test_vectors(self):
        # Fixed once from this implementation: a change of these bytes is a change of the protocol.
        digest = {
            name: hashlib.sha256(prove(statement, values)).hexdigest()
            for name, statement, values in (("counts", COUNTS, [0, 1, 2, 0, 0, 5]), ("mixed", MIXED, [5, 4, 65, 4_032]))
        }
        assert digest == {
            "counts": "f92c95b82b7e9c8095902cde85d3800882b9cfb8fb149f94e21e557e28b4ccd2",
            "mixed": "e73e56ed1168bef57d61fbe757748234300ce1325c8d3e8791a7370c9d6361fd",
        }
        # ChaCha20 (RFC 8439) under key 00..1f, counter 0, nonce "range proofs", 64 bytes, modulo the order.
        blinding = 0x07E74EEC0DAD05737C4369575E9E086C11166A0F0255AC2703F889F621EC82ED
        assert rp.derive_blinding(added=[ENTROPY], subtracted=[]) == blinding
        assert rp.derive_blinding(added=[], subtracted=[ENTROPY]) == ORDER - blinding

    def test_one_entropy_gives_one_proof_and_no_nonce_twice(self):
        assert prove(COUNTS, [0] * 6) == prove(COUNTS, [0] * 6)
        masks = {
            elements(proof)[1]
            for proof in (
                prove(COUNTS, [0] * 6),
                prove(COUNTS, [1, 0, 0, 0, 0, 0]),
                prove(COUNTS, [0] * 6, blinding=8),
                prove(COUNTS, [0] * 6, context=b"another"),
                prove(COUNTS, [0] * 6, entropy=bytes(32)),
                prove(Statement((8,) * 6, (Total(tuple(range(6)), 9),)), [0] * 6),
            )
        }
        assert len(masks) == 6

    def test_two_statements_share_no_encoding(self):
        one_total = Statement((8,), (Total((0,), 6),))
        statements = [COUNTS, MIXED, Statement((8,) * 6), Statement((8,) * 7), Statement((8, 6)), one_total]
        assert len({statement.to_bytes() for statement in statements}) == len(statements)


class TestAttacks:
    @pytest.mark.parametrize(
        "values",
        [
            [-1, 0, 0, 0, 0, 0],
            [9, 0, 0, 0, 0, -1],
            [9, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, -1_000_000],
            [8, 1, 0, 0, 0, 0],
            [4, 4, 4, 4, 4, 4],
            [pow(2, -1, ORDER), 0, 0, 0, 0, 0],
        ],
    )
    def test_values_below_and_above_their_range_or_total_do_not_verify(self, values):
        with pytest.raises(MessageError, match="outside its range"):
            rp.verify(COUNTS, prove_anything(COUNTS, values, blinding=7), context=CONTEXT)

    def test_an_excess_that_another_value_makes_up_for_does_not_verify(self):
        # One value misses by +1 and another by -1: the total holds, and the powers of the first challenge tell them apart.
        for up, down in itertools.permutations(range(6), 2):
            values = [0] * 6
            values[up], values[down] = 9, -1
            assert not accepts(COUNTS, prove_anything(COUNTS, values, blinding=7))

    def test_a_proof_counts_in_its_own_context_alone(self):
        proof = prove(COUNTS, [1] * 6)
        assert accepts(COUNTS, proof)
        for other in (b"session 2, device 3", b"session 1, device 4", b"", CONTEXT + b"\0"):
            assert not accepts(COUNTS, proof, other)

    def test_a_proof_counts_for_its_own_statement_alone(self):
        # The same values, the same size, a bound that holds as well: still another statement.
        proof = prove(Statement((8, 8)), [1, 1])
        assert accepts(Statement((8, 8)), proof)
        assert not accepts(Statement((8, 7)), proof) and not accepts(Statement((7, 8)), proof)

    @settings(max_examples=30)
    @given(data=st.data())
    def test_a_proof_with_any_bit_changed_does_not_verify(self, data):
        statement, values = data.draw(st.sampled_from([(COUNTS, [0, 1, 2, 0, 0, 5]), (MIXED, [5, 4, 65, 4_032])]))
        proof = bytearray(prove(statement, values))
        bit = data.draw(st.integers(0, 8 * len(proof) - 1))
        proof[bit // 8] ^= 1 << bit % 8
        assert not accepts(statement, bytes(proof))

    @pytest.mark.parametrize(("statement", "values"), [(COUNTS, [0, 1, 2, 0, 0, 5]), (MIXED, [5, 4, 65, 4_032])])
    def test_no_element_of_a_proof_is_free(self, statement, values):
        # A response alone changes no challenge: each must be bound by an equation.
        proof = prove(statement, values)
        for index in range(len(elements(proof))):
            changed = bytearray(proof)
            changed[32 * index] ^= 1
            assert not accepts(statement, bytes(changed))

    def test_no_element_can_be_exchanged_with_that_of_another_proof(self):
        one, other = prove(COUNTS, [0, 1, 2, 0, 0, 5]), prove(COUNTS, [1, 0, 0, 0, 0, 0], entropy=bytes(32), blinding=9)
        for index, element in enumerate(elements(other)):
            assert not accepts(COUNTS, replaced(one, index, element))

    @pytest.mark.parametrize("change", [lambda p: b"", lambda p: p[:-1], lambda p: p[:-32], lambda p: p + bytes(32)])
    def test_another_length_is_refused(self, change):
        with pytest.raises(MessageError, match="bytes, expected"):
            rp.verify(COUNTS, change(prove(COUNTS, [1] * 6)), context=CONTEXT)

    @settings(max_examples=30)
    @given(st.binary(min_size=COUNTS.proof_bytes, max_size=COUNTS.proof_bytes))
    def test_garbage_of_the_right_length_is_refused(self, data):
        assert not accepts(COUNTS, data)

    @pytest.mark.parametrize("point", [*SMALL_ORDER, *NON_CANONICAL, "ff" * 32])
    def test_points_of_small_order_and_other_spellings_are_refused_everywhere(self, point):
        proof = prove(COUNTS, [0, 1, 2, 0, 0, 5])
        for index in range(2 + 9):
            with pytest.raises(MessageError, match="canonical element"):
                rp.verify(COUNTS, replaced(proof, index, bytes.fromhex(point)), context=CONTEXT)

    def test_a_commitment_moved_by_a_point_of_small_order_is_refused(self):
        proof = prove(COUNTS, [0, 1, 2, 0, 0, 5])
        for index in range(2 + 9):
            for point in SMALL_ORDER[1:]:
                moved = sodium.crypto_core_ed25519_add(elements(proof)[index], bytes.fromhex(point))
                with pytest.raises(MessageError, match="canonical element"):
                    rp.verify(COUNTS, replaced(proof, index, moved), context=CONTEXT)

    def test_a_response_beyond_the_order_is_refused_where_the_same_one_below_it_verifies(self):
        proof = prove(COUNTS, [0, 1, 2, 0, 0, 5])
        for index in range(2 + 9, len(elements(proof))):
            larger = int.from_bytes(elements(proof)[index], "little") + ORDER
            with pytest.raises(MessageError, match="not below the group's order"):
                rp.verify(COUNTS, replaced(proof, index, larger.to_bytes(32, "little")), context=CONTEXT)

    def test_zeros_do_not_verify(self):
        base = sodium.crypto_scalarmult_ed25519_base_noclamp(scalar(1))
        points, scalars = 2 + 9, len(elements(prove(COUNTS, [0] * 6))) - 11
        assert not accepts(COUNTS, base * points + bytes(32) * scalars)


class TestSum:
    def cohort(self, *, seed=5):
        """Commitments, values and blindings of 4 devices."""
        draw = random.Random(seed)
        values = [[draw.randrange(2) for _ in range(6)] for _ in range(4)]
        blindings = [draw.randrange(ORDER) for _ in range(4)]
        proofs = [prove(COUNTS, own, blinding=blinding) for own, blinding in zip(values, blindings, strict=True)]
        return [rp.verify(COUNTS, proof, context=CONTEXT) for proof in proofs], values, sum(blindings) % ORDER

    def test_a_device_that_masks_another_value_than_it_committed_to_is_noticed(self):
        commitments, values, blinding = self.cohort()
        sums = [sum(column) for column in zip(*values, strict=True)]
        rp.check_sum(COUNTS, commitments, sums, blinding=blinding)
        for index, change in itertools.product(range(6), (-1, 1, 2**32, ORDER + 1)):
            altered = list(sums)
            altered[index] += change
            with pytest.raises(CodecError, match="masked others"):
                rp.check_sum(COUNTS, commitments, altered, blinding=blinding)

    def test_a_blinding_that_is_not_the_masks_is_noticed(self):
        commitments, values, blinding = self.cohort()
        sums = [sum(column) for column in zip(*values, strict=True)]
        with pytest.raises(CodecError, match="masked others"):
            rp.check_sum(COUNTS, commitments, sums, blinding=blinding + 1)

    def test_a_device_left_out_or_counted_twice_is_noticed(self):
        commitments, values, blinding = self.cohort()
        sums = [sum(column) for column in zip(*values, strict=True)]
        for other in (commitments[1:], [*commitments, commitments[0]], [commitments[0], *commitments[:-1]], []):
            with pytest.raises(CodecError, match="masked others"):
                rp.check_sum(COUNTS, other, sums, blinding=blinding)

    def test_sums_of_another_length_are_refused(self):
        commitments, _, blinding = self.cohort()
        with pytest.raises(CodecError, match=r"^5 sums for a statement about 6 values$"):
            rp.check_sum(COUNTS, commitments, [0] * 5, blinding=blinding)

    @settings(max_examples=25)
    @given(n=st.integers(2, 7), seed=st.integers(0, 999), data=st.data())
    def test_blindings_of_the_survivors_add_up_to_what_recovery_knows(self, n, seed, data):
        draw = random.Random(seed)
        pair = {pair: draw.randbytes(32) for pair in itertools.combinations(range(n), 2)}
        own = [draw.randbytes(32) for _ in range(n)]
        survivors = data.draw(st.sets(st.integers(0, n - 1), min_size=1))
        total = sum(
            rp.derive_blinding(
                added=[own[i], *(pair[j, i] for j in range(i))], subtracted=[pair[i, j] for j in range(i + 1, n)]
            )
            for i in survivors
        )
        # The keys that recovery.recover takes the masks away with.
        added, subtracted = [], [own[i] for i in survivors]
        for lost, survivor in itertools.product(set(range(n)) - survivors, survivors):
            (subtracted if lost < survivor else added).append(pair[min(lost, survivor), max(lost, survivor)])
        assert (total + rp.derive_blinding(added=added, subtracted=subtracted)) % ORDER == 0


@pytest.mark.parametrize(
    ("limits", "totals"),
    [
        ((), ()),
        ((0,), ()),
        ((-1,), ()),
        ((rp.LARGEST_LIMIT + 1,), ()),
        ((8,) * (rp.VALUES_LIMIT + 1), ()),
        ((8, 8), (Total((), 8),)),
        ((8, 8), (Total((0, 0), 8),)),
        ((8, 8), (Total((1, 0), 8),)),
        ((8, 8), (Total((0, 2), 8),)),
        ((8, 8), (Total((-1, 0), 8),)),
        ((8, 8), (Total((0, 1), 0),)),
    ],
)
def test_statements_that_cannot_be_proved_are_refused(limits, totals):
    with pytest.raises(InputError):
        Statement(limits, totals)


def test_a_prover_wants_as_many_values_as_limits_and_all_its_entropy():
    for values, entropy in (([0] * 5, ENTROPY), ([0] * 7, ENTROPY), ([0] * 6, ENTROPY[:-1])):
        with pytest.raises(CodecError, match="are needed"):
            prove(COUNTS, values, entropy=entropy)
