"""Published test vectors through our own wrappers, and our derivations against an HKDF written from its RFC."""

import hashlib
import hmac

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secagg_cohort import raises

from fedge.secagg import MessageError, keys, masks

unhex = bytes.fromhex


def test_rfc_7748_x25519_of_section_5_2():
    scalar = unhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = unhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    product = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert keys.agree(keys.private_key_of(scalar), point).hex() == product


def test_rfc_7748_key_agreement_of_section_6_1():
    alice = unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    assert keys.public_key_of(alice).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert keys.public_key_of(bob).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert keys.agree(keys.private_key_of(alice), keys.public_key_of(bob)).hex() == shared
    assert keys.agree(keys.private_key_of(bob), keys.public_key_of(alice)).hex() == shared


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), b"\7" * 31])
def test_a_public_key_with_which_nothing_can_be_agreed_is_refused(point):
    with raises(MessageError, "an X25519 public key is of small order or not 32 bytes long"):
        keys.agree(keys.private_key_of(b"\5" * 32), point)


@pytest.mark.parametrize(
    ("secret", "salt", "info", "okm"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)).hex(),
            bytes(range(0x60, 0xB0)).hex(),
            bytes(range(0xB0, 0x100)).hex(),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09",
        ),
        ("0b" * 22, "", "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
    ],
)
def test_rfc_5869_first_32_bytes_of_cases_1_2_and_3(secret, salt, info, okm):
    assert keys.hkdf(unhex(secret), salt=unhex(salt), info=unhex(info)).hex() == okm[:64]


@pytest.mark.parametrize(
    ("key", "block", "stream"),
    [
        (
            "00" * 32,
            0,
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
            "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        ),
        (
            "00" * 32,
            1,
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
            "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        ),
        (
            "00" * 31 + "01",
            1,
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
            "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        ),
        (
            "00ff" + "00" * 30,
            2,
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
            "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
        ),
    ],
)
def test_rfc_8439_key_stream_of_appendix_a_1(key, block, stream):
    assert masks.key_stream(unhex(key), 64 * (block + 1))[64 * block :].hex() == stream
    vector = np.zeros(16 * (block + 1), dtype="<u4")
    masks.apply_masks(vector, added=[unhex(key)], subtracted=[])
    assert vector[16 * block :].tobytes().hex() == stream


RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_rfc_8032_and_our_signature_is_that_of_the_tagged_message(secret, public, message, signature):
    key = Ed25519PrivateKey.from_private_bytes(unhex(secret))
    assert key.public_key().public_bytes_raw().hex() == public
    assert key.sign(unhex(message)).hex() == signature
    tagged = b"fedge/sa/2/sign/" + b"\0\0\0\6bundle" + unhex(message)
    assert keys.sign(key, "bundle", unhex(message)) == key.sign(tagged)
    keys.verify(key.public_key(), "bundle", unhex(message), key.sign(tagged))


def test_a_signature_does_not_verify_for_another_domain_body_or_key():
    key, other = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
    signature = keys.sign(key, "vector", b"body")
    keys.verify(key.public_key(), "vector", b"body", signature)
    with raises(MessageError, "the signature (shares) does not verify"):
        keys.verify(key.public_key(), "shares", b"body", signature)
    for public, body, bad in (
        (key, b"bodY", signature),
        (other, b"body", signature),
        (key, b"body", signature[:-1]),
        (key, b"body", b""),
    ):
        with raises(MessageError, "the signature (vector) does not verify"):
            keys.verify(public.public_key(), "vector", body, bad)


def hkdf_by_hand(secret: bytes, salt: bytes, info: bytes) -> bytes:
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def test_derivations_follow_the_specification():
    session, secret = hashlib.sha256(b"session").digest(), bytes(range(32))
    info = b"fedge/sa/2/"
    own = keys.self_mask_key(secret, session_id=session, device_id="a")
    assert own == hkdf_by_hand(secret, session, info + framed(b"self", b"a"))
    pair = keys.pair_mask_key(secret, session_id=session, first="b", second="a")
    assert pair == hkdf_by_hand(secret, session, info + framed(b"mask", b"a", b"b"))
    assert pair == keys.pair_mask_key(secret, session_id=session, first="a", second="b")
    up = keys.channel_key(secret, session_id=session, sender="a", receiver="b")
    down = keys.channel_key(secret, session_id=session, sender="b", receiver="a")
    assert up == hkdf_by_hand(secret, session, info + framed(b"chan", b"a", b"b", b"up"))
    assert down == hkdf_by_hand(secret, session, info + framed(b"chan", b"a", b"b", b"down"))


def test_devices_are_ordered_by_the_bytes_of_their_names():
    assert keys.ordered("b", "B") == (b"B", b"b")
    assert keys.ordered("\ue000", "\U00010000") == ("\ue000".encode(), "\U00010000".encode())


def test_no_two_lists_of_parts_frame_to_the_same_bytes():
    assert keys.prefixed(b"a", b"bc") == b"\0\0\0\1a\0\0\0\2bc"
    assert len({keys.prefixed(*parts) for parts in [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), ()]}) == 5


def test_what_is_sealed_opens_only_for_its_ends_its_session_and_its_key():
    ends = {"session_id": b"s" * 32, "sender": "a", "receiver": "b"}
    sealed = keys.seal(b"k" * 32, b"share", **ends)
    assert len(sealed) == 5 + 16
    assert keys.unseal(b"k" * 32, sealed, **ends) == b"share"
    for changes in ({"session_id": b"t" * 32}, {"sender": "b", "receiver": "a"}, {"sender": "c"}, {"receiver": "c"}):
        assert keys.unseal(b"k" * 32, sealed, **{**ends, **changes}) is None
    assert keys.unseal(b"l" * 32, sealed, **ends) is None
    assert keys.unseal(b"k" * 32, sealed[:-1], **ends) is None


def test_a_signature_that_was_verified_before_still_has_to_be_the_same_one(monkeypatch):
    key, other = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
    public, signature = key.public_key(), keys.sign(key, "vector", b"body")
    keys.forget_verified()
    keys.verify(public, "vector", b"body", signature)
    assert len(keys._verified) == 1
    keys.verify(public, "vector", b"body", signature)
    assert len(keys._verified) == 1
    for arguments in (
        (other.public_key(), "vector", b"body", signature),
        (public, "shares", b"body", signature),
        (public, "vector", b"bodY", signature),
        (public, "vector", b"body", bytes(64)),
    ):
        with raises(MessageError, f"the signature ({arguments[1]}) does not verify"):
            keys.verify(*arguments)
    assert len(keys._verified) == 1, "what does not verify is not remembered"
    keys.forget_verified()
    assert not keys._verified
    monkeypatch.setattr(keys, "_VERIFIED_LIMIT", 2)
    for count, body in ((1, b"a"), (2, b"b"), (1, b"c")):
        keys.verify(public, "vector", body, keys.sign(key, "vector", body))
        assert len(keys._verified) == count
