"""Ed25519 signatures with domain tags, and keys as PEM files that only their owner may read.

A signature made for one purpose never verifies for another: the tag and its length are signed with the payload.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.errors import InputError, VerificationError

SIGNATURE_BYTES = 64
_PREFIX = b"fedge/signature/1"


def sign(private_key: Ed25519PrivateKey, domain: str, payload: bytes) -> bytes:
    """The 64-byte signature of ``payload`` for the purpose ``domain`` (an ASCII tag such as ``fedge/release/1``)."""
    return private_key.sign(_message(domain, payload))


def verify(public_key: Ed25519PublicKey, domain: str, payload: bytes, signature: bytes) -> None:
    """Raises VerificationError unless ``signature`` is the key's on ``payload`` for the purpose ``domain``."""
    if len(signature) != SIGNATURE_BYTES:
        raise VerificationError(f"signature ({domain}): {len(signature)} bytes, expected {SIGNATURE_BYTES}")
    try:
        public_key.verify(signature, _message(domain, payload))
    except InvalidSignature:
        raise VerificationError(f"signature ({domain}): does not verify under the expected key") from None


def save_private_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Writes a new PEM file (PKCS 8, mode 0600). Raises InputError where the file exists: a key is never overwritten."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise InputError(f"cannot create the key file {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file. Raises InputError where it is missing, of another kind, or readable by others."""
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise InputError(f"the key file {path} is open to others: run chmod 600 on it")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise InputError(f"cannot read the key file {path}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"the key file {path} is not an unencrypted PEM private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"the key file {path} holds another kind of key than Ed25519")
    return key


def save_public_key(path: Path, key: Ed25519PublicKey) -> None:
    """Writes the PEM file of a public key, replacing what stood there."""
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file. Raises InputError."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the key file {path}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"the key file {path} is not a PEM public key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"the key file {path} holds another kind of key than Ed25519")
    return key


def _message(domain: str, payload: bytes) -> bytes:
    tag = domain.encode("ascii")
    return _PREFIX + len(tag).to_bytes(2, "big") + tag + payload
