"""Range proofs for the integers of a secure sum: a device proves that its counts, and totals of them, lie in [0, limit].

A device commits to its values v with V = sum v_j K_j + r B, a Pedersen vector commitment on Ed25519. Its blinding r is one
more masked coordinate: the scalars that the keys of its masks give, added and subtracted like the masks themselves. Whoever
removes the masks from the sum therefore knows the sum of all r, and nothing about a single one, so that

    sum of V over the survivors  ==  sum_j (released sum of v_j) K_j  +  (sum of r) B

holds exactly for the sum of what was committed (`check_sum`), and V hides the values as the masks hide the vector.

The proof is a Schnorr-like protocol for the opening of V, made non-interactive with Fiat-Shamir. A response f = d x + a
speaks for a digit d masked by a. With P(f, x) = prod over k = 0..limit of (f - k x), the coefficient of x^(limit + 1) in P
is prod (d - k): it vanishes exactly where d is one of 0..limit. The prover commits to the lower coefficients, summed over
the digits with powers of a first challenge, before it learns x. A value up to 64 is one digit; a larger one has digits to
base 64 in a second commitment C, and its response is the weighted sum of theirs. A total of at most T is a further value,
the slack T - total, one response of which follows from the others.

Sources: Pedersen, CRYPTO 1991; the polynomial in the response, Groth and Kohlweiss, EUROCRYPT 2015
(https://eprint.iacr.org/2014/764); linear forms on committed vectors, Attema and Cramer, CRYPTO 2020
(https://eprint.iacr.org/2020/152); Fiat-Shamir with several challenges, Attema, Fehr and Klooss, TCC 2022
(https://eprint.iacr.org/2021/1377). The argument and the costs are in docs/research/input-validity.md.

Group operations are libsodium's and take constant time. Arithmetic on scalars is Python's and does not: whoever times the
device's processor may learn of its values. Which operations there are depends on the statement alone.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_from_uniform,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)

from fedge.errors import InputError
from fedge.secagg.errors import CodecError, MessageError
from fedge.secagg.keys import prefixed

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Order of the prime-order subgroup of Ed25519: scalars are integers modulo it."""
ELEMENT_BYTES = 32
ENTROPY_BYTES = 32
VALUES_LIMIT = 1_024
LARGEST_LIMIT = (1 << 24) - 1
DIGIT_LIMIT = 64
"""The largest value that is one digit. Each digit costs two multiplications, each unit of the largest digit one more."""
BASE = 64
_DOMAIN = b"fedge/sa/2/range/"
_BLINDING_NONCE = b"range proofs"
_IDENTITY = (1).to_bytes(ELEMENT_BYTES, "little")


@dataclass(frozen=True, slots=True)
class Total:
    """A claim: the sum of the values at the positions ``members`` (from 0, ascending) lies in [0, ``limit``]."""

    members: tuple[int, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class Statement:
    """The claims of a proof: value j lies in [0, ``limits[j]``], and every total holds.

    Raises InputError for a statement that cannot be proved.
    """

    limits: tuple[int, ...]
    totals: tuple[Total, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.limits) + len(self.totals) <= VALUES_LIMIT or not self.limits:
            raise InputError(f"{len(self.limits)} values and {len(self.totals)} totals: choose 1 to {VALUES_LIMIT} in all")
        for limit in (*self.limits, *(total.limit for total in self.totals)):
            if not 1 <= limit <= LARGEST_LIMIT:
                raise InputError(f"a limit is {limit}: choose 1 to {LARGEST_LIMIT}")
        for total in self.totals:
            ascending = all(low < high for low, high in pairwise((-1, *total.members, len(self.limits))))
            if not total.members or not ascending:
                raise InputError(f"a total's members must ascend in 0..{len(self.limits) - 1}: {total.members}")

    def to_bytes(self) -> bytes:
        """Return the encoding that a proof's challenges cover. Two statements never share one."""
        rows = [self.limits, *((total.limit, *total.members) for total in self.totals)]
        return prefixed(*(b"".join(number.to_bytes(4, "big") for number in row) for row in rows))

    def extend(self, values: Sequence[int], *, devices: int = 1) -> list[int]:
        """Append the slack of each total, summed over ``devices``."""
        slacks = [devices * total.limit - sum(values[member] for member in total.members) for total in self.totals]
        return [*values, *slacks]

    @property
    def proof_bytes(self) -> int:
        """Size of a proof: it depends on nothing but the statement."""
        layout = _layout(self)
        return ELEMENT_BYTES * (layout.points + layout.scalars)


@dataclass(frozen=True, slots=True)
class _Digit:
    """A part of a value: ``weight`` times a number in [0, ``limit``]."""

    value: int
    weight: int
    limit: int
    derived: bool
    """The response follows from a total."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The parts of a proof of one statement. Values include the slacks."""

    values: int
    digits: tuple[_Digit, ...]
    committed: tuple[int, ...]
    """Digits that stand in C: those of values with several."""
    degree: int
    """The largest degree of a digit's polynomial."""

    @property
    def points(self) -> int:
        """Count V and its mask, C and its mask where there is one, and the coefficients."""
        return (4 if self.committed else 2) + self.degree

    @property
    def scalars(self) -> int:
        """Count the responses of the digits and those of the blindings of V, of C and of the coefficients."""
        return sum(not digit.derived for digit in self.digits) + (3 if self.committed else 2)


@lru_cache(maxsize=64)
def _layout(statement: Statement) -> _Layout:
    limits = [*statement.limits, *(total.limit for total in statement.totals)]
    digits: list[_Digit] = []
    committed: list[int] = []
    for value, limit in enumerate(limits):
        parts = _parts(limit)
        if len(parts) > 1:
            committed += range(len(digits), len(digits) + len(parts))
        slack = value >= len(statement.limits)
        digits += [_Digit(value, weight, top, slack and place == 0) for place, (weight, top) in enumerate(parts)]
    return _Layout(len(limits), tuple(digits), tuple(committed), 1 + max(digit.limit for digit in digits))


@cache
def _parts(limit: int) -> tuple[tuple[int, int], ...]:
    """Return weights and limits of digits that reach exactly 0..limit, the first of weight 1."""
    if limit <= DIGIT_LIMIT:
        return ((1, limit),)
    parts, weight = [], 1
    while weight * BASE - 1 <= limit:
        parts.append((weight, BASE - 1))
        weight *= BASE
    top, rest = divmod(limit - (weight - 1), weight)
    if top:
        parts.append((weight, top))
    if rest:
        parts.append((rest, 1))
    return tuple(parts)


def _split(value: int, limit: int) -> list[int]:
    """Return the digits of ``value`` for `_parts`: each is as small as the reach of those before it allows."""
    reach, rest = limit, value
    digits = []
    for weight, top in reversed(_parts(limit)):
        reach -= weight * top
        digits.append(max(0, -(-(rest - reach) // weight)))
        rest -= digits[-1] * weight
    return digits[::-1]


def derive_blinding(*, added: Iterable[bytes], subtracted: Iterable[bytes]) -> int:
    """Return the scalar that the keys of these masks give, as `masks.apply_masks` gives the mask of a vector.

    Of a survivor's keys it is the blinding of its commitment. Of the keys that recovery takes the sum's masks away with, the
    other way round, it is the sum of all blindings.
    """
    return (sum(map(_blinding_scalar, added)) - sum(map(_blinding_scalar, subtracted))) % ORDER


def prove(statement: Statement, values: Sequence[int], *, blinding: int, context: bytes, entropy: bytes) -> bytes:
    """Return the commitment to ``values`` and the proof of ``statement`` about them.

    ``context`` names what the proof is for: session, device and set of sharers. ``entropy`` is 32 fresh random bytes; the
    nonces depend on everything secret as well, so that a repeated ``entropy`` alone gives nothing away. Raises CodecError
    for values that the statement excludes.
    """
    layout = _layout(statement)
    if len(values) != len(statement.limits) or len(entropy) != ENTROPY_BYTES:
        needed = f"{len(statement.limits)} and {ENTROPY_BYTES} are needed"
        raise CodecError(f"{len(values)} values and {len(entropy)} bytes of entropy: {needed}")
    extended = statement.extend(values)
    limits = (*statement.limits, *(total.limit for total in statement.totals))
    for index, (value, limit) in enumerate(zip(extended, limits, strict=True)):
        if not 0 <= value <= limit:
            name = f"value {index}" if index < len(values) else f"what total {index - len(values)} leaves"
            raise CodecError(f"{name} is {value}, outside [0, {limit}]: cap the counts before they are proved")
    digits = [digit for value, limit in zip(extended, limits, strict=True) for digit in _split(value, limit)]
    nonces = _Nonces(entropy, blinding, extended, statement, context)

    masks = _draw_masks(statement, layout, nonces)
    values_blinding_mask, digits_blinding, digits_blinding_mask = nonces.draw(), nonces.draw(), nonces.draw()
    bases = _bases(b"value", layout.values)
    commitments = [
        _commit_small(extended, bases, blinding),
        _commit(_weighted(layout, masks), bases, values_blinding_mask),
    ]
    if layout.committed:
        digit_bases = _bases(b"digit", len(layout.committed))
        commitments += [
            _commit_small([digits[index] for index in layout.committed], digit_bases, digits_blinding),
            _commit([masks[index] for index in layout.committed], digit_bases, digits_blinding_mask),
        ]
    first = _challenge(b"first", context, statement.to_bytes(), *commitments)

    coefficients = _coefficients(layout, digits, masks, first)
    coefficient_blindings = [nonces.draw() for _ in coefficients]
    lower = [
        _commit([coefficient], _bases(b"coefficient", 1), own)
        for coefficient, own in zip(coefficients, coefficient_blindings, strict=True)
    ]
    x = _challenge(b"second", _encode(first), *lower)

    responses = [
        (digit * x + mask) % ORDER
        for digit, mask, part in zip(digits, masks, layout.digits, strict=True)
        if not part.derived
    ]
    responses.append((blinding * x + values_blinding_mask) % ORDER)
    if layout.committed:
        responses.append((digits_blinding * x + digits_blinding_mask) % ORDER)
    responses.append(_evaluate(coefficient_blindings, x))
    return b"".join([*commitments, *lower, *map(_encode, responses)])


def verify(statement: Statement, proof: bytes, *, context: bytes) -> bytes:
    """Return the commitment that ``proof`` opens. Raises MessageError unless it proves ``statement`` in this ``context``."""
    layout = _layout(statement)
    if len(proof) != statement.proof_bytes:
        raise MessageError(f"the range proof has {len(proof)} bytes, expected {statement.proof_bytes}")
    elements = [proof[at : at + ELEMENT_BYTES] for at in range(0, len(proof), ELEMENT_BYTES)]
    points, scalars = elements[: layout.points], [_decode(element) for element in elements[layout.points :]]
    for point in points:
        if not crypto_core_ed25519_is_valid_point(point):
            raise MessageError("a point of the range proof is not a canonical element of the prime-order group")
    lower = points[-layout.degree :]
    commitments = points[: -layout.degree]
    first = _challenge(b"first", context, statement.to_bytes(), *commitments)
    x = _challenge(b"second", _encode(first), *lower)

    blindings = scalars[sum(not digit.derived for digit in layout.digits) :]
    responses = _all_responses(statement, layout, scalars, x)
    opened = [_commit(_weighted(layout, responses), _bases(b"value", layout.values), blindings[0])]
    if layout.committed:
        own = [responses[index] for index in layout.committed]
        opened.append(_commit(own, _bases(b"digit", len(own)), blindings[1]))
    for opening, commitment, mask in zip(opened, commitments[::2], commitments[1::2], strict=True):
        if opening != crypto_core_ed25519_add(_times(x, commitment), mask):
            raise MessageError("the range proof does not open its commitment")
    value = 0
    for digit, response, power in zip(layout.digits, responses, _powers(first, len(responses)), strict=True):
        product = power * pow(x, layout.degree - 1 - digit.limit, ORDER) % ORDER
        for k in range(digit.limit + 1):
            product = product * (response - k * x) % ORDER
        value += product
    expected = _commit([value % ORDER], _bases(b"coefficient", 1), blindings[-1])
    if _sum_of_products(_powers(x, layout.degree), lower) != expected:
        raise MessageError("the range proof shows a value outside its range")
    return commitments[0]


def check_sum(statement: Statement, commitments: Sequence[bytes], sums: Sequence[int], *, blinding: int) -> None:
    """Raise CodecError unless the released ``sums`` are those of the values in ``commitments``, which `verify` returned.

    ``blinding`` is the sum of all blindings. A mismatch means that some device's masked vector is not what it committed to;
    it does not say whose.
    """
    if len(sums) != len(statement.limits):
        raise CodecError(f"{len(sums)} sums for a statement about {len(statement.limits)} values")
    extended = statement.extend(sums, devices=len(commitments))
    total = _IDENTITY
    for commitment in commitments:
        total = crypto_core_ed25519_add(total, commitment)
    if total != _commit([number % ORDER for number in extended], _bases(b"value", len(extended)), blinding):
        raise CodecError("the sum is not that of the committed values: a device masked others than it committed to")


class _Nonces:
    """A stream of secret scalars for one proof, from its entropy and everything else that it is made of."""

    def __init__(self, entropy: bytes, blinding: int, values: Sequence[int], statement: Statement, context: bytes) -> None:
        numbers = b"".join(value.to_bytes(4, "big") for value in values)
        material = prefixed(_DOMAIN + b"nonces", entropy, _encode(blinding % ORDER), numbers, statement.to_bytes(), context)
        self._stream = Cipher(ChaCha20(hashlib.sha512(material).digest()[:32], bytes(16)), mode=None).encryptor()

    def draw(self) -> int:
        """Return the next scalar."""
        return _reduce(self._stream.update(bytes(64)))


def _draw_masks(statement: Statement, layout: _Layout, nonces: _Nonces) -> list[int]:
    """Draw a mask for each digit; those of a total and its slack add up to 0, as what they mask adds up to its limit."""
    masks = [0 if digit.derived else nonces.draw() for digit in layout.digits]
    return _complete(statement, layout, masks, 0)


def _all_responses(statement: Statement, layout: _Layout, sent: Sequence[int], x: int) -> list[int]:
    """Return the response of each digit, those that follow from a total included."""
    given = iter(sent)
    responses = [0 if digit.derived else next(given) for digit in layout.digits]
    return _complete(statement, layout, responses, x)


def _complete(statement: Statement, layout: _Layout, numbers: list[int], x: int) -> list[int]:
    """Fill in the numbers that make each total's members and slack add up to its limit times ``x``."""
    by_value = _weighted(layout, numbers)
    completed = list(numbers)
    for index, digit in enumerate(layout.digits):
        if digit.derived:
            total = statement.totals[digit.value - len(statement.limits)]
            rest = by_value[digit.value] + sum(by_value[member] for member in total.members)
            completed[index] = (total.limit * x - rest) % ORDER
    return completed


def _weighted(layout: _Layout, numbers: Sequence[int]) -> list[int]:
    """Combine one number for each digit into one for each value."""
    by_value = [0] * layout.values
    for digit, number in zip(layout.digits, numbers, strict=True):
        by_value[digit.value] += digit.weight * number
    return [number % ORDER for number in by_value]


def _coefficients(layout: _Layout, digits: Sequence[int], masks: Sequence[int], first: int) -> list[int]:
    """Return the coefficients of x^0 to x^(degree - 1) of the digits' polynomials, weighted with powers of ``first``."""
    result = [0] * layout.degree
    for part, digit, mask, power in zip(layout.digits, digits, masks, _powers(first, len(digits)), strict=True):
        product = power
        for order, coefficient in enumerate(_expansions(part.limit)[digit][1:], start=1):
            product = product * mask % ORDER
            result[layout.degree - order] += coefficient * product
    return [coefficient % ORDER for coefficient in result]


@cache
def _expansions(limit: int) -> tuple[tuple[int, ...], ...]:
    """Return for each d in 0..limit the coefficients of s^0, s^1, ... in prod over k = 0..limit of (d + s - k)."""
    polynomial = [1]
    for k in range(limit + 1):
        polynomial = _times_linear(polynomial, -k)
    rows = [polynomial]
    for d in range(limit):  # the next product has the factor (s + d + 1) and lacks (s + d - limit)
        rows.append(_times_linear(_without_linear(rows[-1], d - limit), d + 1))
    return tuple(tuple(coefficient % ORDER for coefficient in row) for row in rows)


def _times_linear(polynomial: list[int], constant: int) -> list[int]:
    """Multiply ``polynomial`` by (s + constant)."""
    return [low + constant * high for low, high in zip([0, *polynomial], [*polynomial, 0], strict=True)]


def _without_linear(polynomial: list[int], constant: int) -> list[int]:
    """Divide ``polynomial`` by (s + constant), of which it is a multiple."""
    quotient, carry = [], 0
    for coefficient in reversed(polynomial[1:]):
        carry = coefficient - constant * carry
        quotient.append(carry)
    return quotient[::-1]


@lru_cache(maxsize=16)
def _bases(kind: bytes, count: int) -> tuple[bytes, ...]:
    """Return points between whose logarithms nobody knows a relation: hashes of their names."""
    names = (prefixed(_DOMAIN + b"base", kind, index.to_bytes(4, "big")) for index in range(count))
    return tuple(crypto_core_ed25519_from_uniform(hashlib.sha512(name).digest()[:32]) for name in names)


@lru_cache(maxsize=16)
def _sum_of_points(points: tuple[bytes, ...]) -> bytes:
    total = _IDENTITY
    for point in points:
        total = crypto_core_ed25519_add(total, point)
    return total


def _commit(numbers: Sequence[int], bases: Sequence[bytes], blinding: int) -> bytes:
    own = crypto_scalarmult_ed25519_base_noclamp(_encode(blinding)) if blinding else _IDENTITY
    return crypto_core_ed25519_add(_sum_of_products(numbers, bases), own)


def _commit_small(numbers: Sequence[int], bases: tuple[bytes, ...], blinding: int) -> bytes:
    """Commit to numbers that are often 0, which libsodium multiplies with nothing: add 1 to each, and take that away."""
    raised = _commit([number + 1 for number in numbers], bases, blinding)
    return crypto_core_ed25519_sub(raised, _sum_of_points(bases))


def _sum_of_products(numbers: Sequence[int], points: Sequence[bytes]) -> bytes:
    total = _IDENTITY
    for number, point in zip(numbers, points, strict=True):
        total = crypto_core_ed25519_add(total, _times(number, point))
    return total


def _times(number: int, point: bytes) -> bytes:
    return crypto_scalarmult_ed25519_noclamp(_encode(number), point) if number else _IDENTITY


def _challenge(label: bytes, *parts: bytes) -> int:
    return _reduce(hashlib.sha512(prefixed(_DOMAIN + label, *parts)).digest())


def _blinding_scalar(key: bytes) -> int:
    """Return a scalar from the cipher that expands a mask's key, under a nonce of its own."""
    stream = Cipher(ChaCha20(key, bytes(4) + _BLINDING_NONCE), mode=None).encryptor()
    return _reduce(stream.update(bytes(64)))


def _powers(number: int, count: int) -> list[int]:
    powers = [1]
    while len(powers) < count:
        powers.append(powers[-1] * number % ORDER)
    return powers


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    """Evaluate the polynomial with these coefficients, lowest first, at ``x``."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % ORDER
    return value


def _reduce(wide: bytes) -> int:
    """Reduce 64 uniform bytes to a scalar: the bias is below 2^-250."""
    return int.from_bytes(wide, "little") % ORDER


def _encode(number: int) -> bytes:
    return number.to_bytes(ELEMENT_BYTES, "little")


def _decode(data: bytes) -> int:
    number = int.from_bytes(data, "little")
    if number >= ORDER:
        raise MessageError("a scalar of the range proof is not below the group's order")
    return number
