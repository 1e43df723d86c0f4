import itertools
import random

import galois
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.secagg import shamir

secrets = st.binary(min_size=32, max_size=32)


def randomness(t: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(48 * (t - 1))


def reconstruct(shares, points, n):
    return shamir.combine([shares[point - 1] for point in points], shamir.coefficients_at_zero(points, n))


def test_the_modulus_is_the_smallest_prime_above_2_to_the_256():
    assert shamir.PRIME == 2**256 + 297
    assert galois.is_prime(shamir.PRIME) and galois.next_prime(2**256) == shamir.PRIME


@given(secret=secrets, n=st.integers(1, 12), data=st.data())
def test_any_t_shares_give_the_secret_back(secret, n, data):
    t = data.draw(st.integers(1, n))
    shares = shamir.split(secret, t=t, n=n, randomness=randomness(t, data.draw(st.integers(0, 99))))
    points = data.draw(st.permutations(range(1, n + 1)))[:t]
    assert [len(share) for share in shares] == [33] * n
    assert reconstruct(shares, points, n) == secret


def test_every_set_of_t_shares_gives_the_secret_and_smaller_ones_something_else():
    secret, n, t = b"\xff" * 32, 6, 4
    shares = shamir.split(secret, t=t, n=n, randomness=randomness(t))
    for points in itertools.combinations(range(1, n + 1), t):
        assert reconstruct(shares, points, n) == secret
    for points in itertools.combinations(range(1, n + 1), t - 1):
        assert reconstruct(shares, points, n) != secret


@settings(max_examples=10)
@given(secret=secrets, seed=st.integers(0, 999))
def test_shares_and_coefficients_are_those_that_galois_computes(secret, seed):
    field = galois.GF(shamir.PRIME, primitive_element=10, verify=False)
    n, t = 7, 5
    random_bytes = randomness(t, seed)
    highest_first = [
        int.from_bytes(random_bytes[at : at + 48], "big") % shamir.PRIME for at in range(0, len(random_bytes), 48)
    ]
    polynomial = galois.Poly([*highest_first, int.from_bytes(secret, "big")], field=field)
    shares = shamir.split(secret, t=t, n=n, randomness=random_bytes)
    assert [int.from_bytes(share, "big") for share in shares] == [int(polynomial(x)) for x in range(1, n + 1)]
    points = random.Random(seed).sample(range(1, n + 1), t)
    values = [int.from_bytes(shares[point - 1], "big") for point in points]
    lagrange = galois.lagrange_poly(field(points), field(values))
    assert lagrange == polynomial
    assert reconstruct(shares, points, n) == int(lagrange(0)).to_bytes(32, "big")


def test_coefficients_at_zero_in_closed_form():
    # Through (1, y1), (2, y2), (3, y3) the value at 0 is 3 y1 - 3 y2 + y3, whatever k bounds the points.
    for k in (3, 4, 128):
        assert shamir.coefficients_at_zero([1, 2, 3], k) == [3, shamir.PRIME - 3, 1]
    assert shamir.coefficients_at_zero([2, 3, 4], 4) == [6, shamir.PRIME - 8, 3]
    assert shamir.coefficients_at_zero([5], 5) == [1]
    assert shamir.coefficients_at_zero([4, 2], 4) == [shamir.PRIME - 1, 2]


def test_coefficients_sum_to_one_at_the_largest_cohort():
    points = list(range(43, 129))
    assert sum(shamir.coefficients_at_zero(points, 128)) % shamir.PRIME == 1


def test_t_minus_one_shares_fit_every_secret():
    # For each candidate secret there is a polynomial through the t - 1 shares and that secret: they say nothing about it.
    t = 3
    shares = shamir.split(b"\1" * 32, t=t, n=3, randomness=randomness(t))
    known = [int.from_bytes(share, "big") for share in shares[:2]]
    for candidate in (0, 1, 2**256 - 1):
        third = (candidate - 3 * known[0] + 3 * known[1]) % shamir.PRIME
        forged = [*shares[:2], third.to_bytes(33, "big")]
        assert reconstruct(forged, [1, 2, 3], 3) == candidate.to_bytes(32, "big")


def test_combine_gives_none_where_the_result_is_no_secret():
    assert shamir.combine([(2**256 - 1).to_bytes(33, "big")], [1]) == b"\xff" * 32
    assert shamir.combine([(2**256).to_bytes(33, "big")], [1]) is None
    assert shamir.combine([(2**256 + 296).to_bytes(33, "big")], [1]) is None
    assert shamir.combine([shamir.PRIME.to_bytes(33, "big")], [1]) == bytes(32)


def test_combine_wants_as_many_shares_as_coefficients():
    with pytest.raises(ValueError, match="zip"):
        shamir.combine([bytes(33)], [1, 2])


@pytest.mark.parametrize(
    ("size", "t", "n", "random_bytes"), [(31, 2, 3, 48), (33, 2, 3, 48), (32, 0, 3, 0), (32, 4, 3, 144), (32, 2, 3, 47)]
)
def test_split_refuses_what_it_cannot_split(size, t, n, random_bytes):
    message = f"^cannot split {size} bytes {t}-of-{n} with {random_bytes} random bytes$"
    with pytest.raises(ValueError, match=message):
        shamir.split(bytes(size), t=t, n=n, randomness=bytes(random_bytes))


def test_split_takes_the_extremes():
    assert shamir.split(b"\7" * 32, t=1, n=1, randomness=b"") == [b"\0" + b"\7" * 32]
    assert len(shamir.split(bytes(32), t=3, n=3, randomness=bytes(96))) == 3


@pytest.mark.parametrize("points", [[1, 1], [0, 1], [1, 4]])
def test_points_must_be_distinct_and_in_range(points):
    with pytest.raises(ValueError) as caught:
        shamir.coefficients_at_zero(points, 3)
    assert str(caught.value) == f"points must be distinct and in 1..3: {points}"
