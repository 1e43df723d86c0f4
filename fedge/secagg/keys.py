"""Keys of one session: agreement, derivation, sealing and signatures, each bound to what it is for.

Every key is derived under the session's id and a label that names its role and its two ends; every signature covers a domain
tag. A key or signature made for one purpose is therefore useless for another. No randomness is drawn in here.
"""

from hashlib import sha256

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedge.secagg.errors import MessageError

KEY_BYTES = 32
_NONCE = bytes(12)
_DERIVATION = b"fedge/sa/2/"
_SIGNATURE = b"fedge/sa/2/sign/"
_FIELD = 2**255 - 19
_SMALL_ORDER = frozenset(
    {
        0,
        1,
        _FIELD - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)
"""The u-coordinates of all points of order 1, 2, 4 and 8 on the curve and its twist (https://cr.yp.to/ecdh.html#validate)."""
_VERIFIED_LIMIT = 8_192
_verified: set[bytes] = set()


def prefixed(*parts: bytes) -> bytes:
    """The parts, each behind its length (4 bytes, big-endian): no two lists of parts give the same bytes."""
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def ordered(first: str, second: str) -> tuple[bytes, bytes]:
    """Two device names as bytes, the lower one first."""
    low, high = sorted((first.encode(), second.encode()))
    return low, high


def check_public_key(name: str, public_key: bytes) -> bytes:
    """Return an X25519 public key in its one canonical form (RFC 7748). Raises MessageError for any other bytes.

    Refused are u >= p and the high bit set (X25519 would take each for another key, so that one key had several names), and
    the points of small order, with which every agreement gives the same secret.
    """
    if len(public_key) != KEY_BYTES:
        raise MessageError(f"{name} has {len(public_key)} bytes, expected {KEY_BYTES}")
    u = int.from_bytes(public_key, "little")
    if u >= _FIELD:
        raise MessageError(f"{name} is not in canonical form: u is not below 2^255 - 19")
    if u in _SMALL_ORDER:
        raise MessageError(f"{name} is a point of small order")
    return public_key


def private_key_of(private: bytes) -> X25519PrivateKey:
    """The key of 32 private bytes. Making it costs as much as an agreement, so make it once for many."""
    return X25519PrivateKey.from_private_bytes(private)


def agree(private_key: X25519PrivateKey, public_key: bytes) -> bytes:
    """X25519. Raises MessageError for a public key of small order, with which nothing can be agreed."""
    try:
        return private_key.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:
        raise MessageError("an X25519 public key is of small order or not 32 bytes long") from None


def public_key_of(private: bytes) -> bytes:
    """The X25519 public key of 32 private bytes."""
    return private_key_of(private).public_key().public_bytes_raw()


def hkdf(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869): 32 bytes."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)


def derive(secret: bytes, *, session_id: bytes, label: bytes) -> bytes:
    """A key of one session: the session's id is the salt, the label says what the key is for."""
    return hkdf(secret, salt=session_id, info=_DERIVATION + label)


def self_mask_key(seed: bytes, *, session_id: bytes, device_id: str) -> bytes:
    """Key of the stream with which a device masks its own vector."""
    return derive(seed, session_id=session_id, label=prefixed(b"self", device_id.encode()))


def pair_mask_key(agreed: bytes, *, session_id: bytes, first: str, second: str) -> bytes:
    """Key of the stream that one end of a pair adds and the other subtracts: the same from both ends."""
    return derive(agreed, session_id=session_id, label=prefixed(b"mask", *ordered(first, second)))


def channel_key(agreed: bytes, *, session_id: bytes, sender: str, receiver: str) -> bytes:
    """Key of the one ciphertext from ``sender`` to ``receiver``."""
    low, high = ordered(sender, receiver)
    direction = b"up" if low == sender.encode() else b"down"
    return derive(agreed, session_id=session_id, label=prefixed(b"chan", low, high, direction))


def seal(key: bytes, plaintext: bytes, *, session_id: bytes, sender: str, receiver: str) -> bytes:
    """AES-256-GCM under a key that is used once, which is why the nonce can be zero."""
    return AESGCM(key).encrypt(_NONCE, plaintext, prefixed(session_id, sender.encode(), receiver.encode()))


def unseal(key: bytes, ciphertext: bytes, *, session_id: bytes, sender: str, receiver: str) -> bytes | None:
    """What was sealed, or None where the ciphertext is not from ``sender`` to ``receiver`` in this session."""
    try:
        return AESGCM(key).decrypt(_NONCE, ciphertext, prefixed(session_id, sender.encode(), receiver.encode()))
    except InvalidTag:
        return None


def sign(private_key: Ed25519PrivateKey, domain: str, body: bytes) -> bytes:
    """64 bytes over the domain tag and the body."""
    return private_key.sign(_SIGNATURE + prefixed(domain.encode()) + body)


def verify(public_key: Ed25519PublicKey, domain: str, body: bytes, signature: bytes) -> None:
    """Raises MessageError unless ``signature`` is the key's on ``body`` in this domain.

    A signature that verified is remembered by its hash. A device sees each once, but in a simulator all devices of a cohort
    verify the same ones: 85 of them are 25 of the 40 ms of CPU that a device takes at n = 32. Timings of one device call
    `forget_verified` first.
    """
    message = _SIGNATURE + prefixed(domain.encode()) + body
    known = sha256(prefixed(public_key.public_bytes_raw(), message, signature)).digest()
    if known in _verified:
        return
    try:
        public_key.verify(signature, message)
    except InvalidSignature:
        raise MessageError(f"the signature ({domain}) does not verify") from None
    if len(_verified) >= _VERIFIED_LIMIT:
        _verified.clear()
    _verified.add(known)


def forget_verified() -> None:
    """Makes the next verification of every signature a real one."""
    _verified.clear()
