"""Files that hold keys and certificates: written whole or not at all, keys readable by their owner alone."""

import os
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from fedge.errors import InputError

PRIVATE, PUBLIC = 0o600, 0o644


def make_private_folder(folder: Path) -> None:
    """The folder with mode 0700, also where it was there before with a wider one. Raises InputError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None


def write_file(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Replaces the file in one step, on disk before this returns: a reader sees the old or the new one. InputError."""
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            staging.replace(path)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def load_or_create_ec_key(path: Path, curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    """The ECDSA key in a PEM file, generated on first use (mode 0600). Raises InputError."""
    if path.exists():
        return load_ec_key(path)
    key = ec.generate_private_key(curve)
    write_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def load_ec_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The ECDSA key in a PEM file. Raises InputError where it is missing, of another kind, or readable by others."""
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise InputError(f"the key file {path} is open to others: run chmod 600 on it")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise InputError(f"cannot read the key file {path}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"the key file {path} is not an unencrypted PEM private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"the key file {path} holds another kind of key than ECDSA")
    return key


def read_secret_line(path: Path) -> str:
    """The secret that stands alone in a file, printable ASCII. Raises InputError, also where others may read it."""
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise InputError(f"the file {path} with a secret is open to others: run chmod 600 on it")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = read_file(path, max_bytes=1 << 14).decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or " " in text:
        raise InputError(f"{path} must hold one line with the secret alone, in printable ASCII")
    return text


def read_file(path: Path, *, max_bytes: int = 1 << 20) -> bytes:
    """What stands in a small file. Raises InputError."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > max_bytes:
        raise InputError(f"{path} has more than {max_bytes} bytes")
    return data


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
