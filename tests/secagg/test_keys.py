"""Public keys of X25519 have one form each: anything else is no key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.secagg import keys
from fedge.secagg.errors import MessageError

P = 2**255 - 19
ORDER_8 = (
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
)


def encoded(u: int) -> bytes:
    return u.to_bytes(32, "little")


@given(st.binary(min_size=32, max_size=32))
def test_what_a_private_key_gives_is_in_canonical_form(private):
    public = keys.public_key_of(private)
    assert keys.check_public_key("the mask key", public) == public


@given(st.binary(min_size=32, max_size=32))
def test_the_high_bit_makes_another_name_of_a_key_and_is_refused(private):
    public = bytearray(keys.public_key_of(private))
    public[31] |= 0x80
    assert keys.agree(keys.private_key_of(private), bytes(public))  # X25519 itself takes it
    with pytest.raises(MessageError, match="the mask key is not in canonical form"):
        keys.check_public_key("the mask key", bytes(public))


@pytest.mark.parametrize("u", [*range(P, 2**255), 2**255, 2**256 - 1])
def test_no_u_from_the_field_size_on_is_a_key(u):
    with pytest.raises(MessageError, match="canonical"):
        keys.check_public_key("the channel key", encoded(u))


@pytest.mark.parametrize("data", [encoded(0), encoded(1), encoded(P - 1), *map(bytes.fromhex, ORDER_8)])
def test_points_of_small_order_are_refused_as_the_library_refuses_to_agree_with_them(data):
    with pytest.raises(MessageError, match="the mask key is a point of small order"):
        keys.check_public_key("the mask key", data)
    with pytest.raises(MessageError):
        keys.agree(keys.private_key_of(bytes(range(32))), data)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_another_size_is_no_key(size):
    with pytest.raises(MessageError, match=f"{size} bytes, expected 32"):
        keys.check_public_key("the mask key", bytes(size))
