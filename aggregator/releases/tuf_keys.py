"""The keys of the TUF repository: Ed25519, one PEM file each (0600), in two folders that need not be on one machine.

``keys/`` holds what the server needs day and night: `release` signs what is offered, `snapshot` and `timestamp` that it is
whole and fresh. ``root/`` says which keys these are and is needed only to change that: take it off the machine.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # not in an __all__
from tuf.api.metadata import Root  # type: ignore[attr-defined]  # not in an __all__

from fedge.errors import InputError
from fedge.release import load_private_key, save_private_key

Online = Literal["targets", "snapshot", "timestamp"]
ONLINE: tuple[Online, ...] = ("targets", "snapshot", "timestamp")
_FILES: dict[Online, str] = {"targets": "release.key", "snapshot": "snapshot.key", "timestamp": "timestamp.key"}
_NEXT = ".next"


def make_key(path: Path) -> CryptoSigner:
    """A new key in a new file. Raises InputError where the file exists."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    save_private_key(path, key)
    return CryptoSigner(key)


def make_online(folder: Path, role: Online, *, following: bool = False) -> CryptoSigner:
    """A new key of an online role; ``following`` puts it beside the present one, until `settle_online`."""
    path = folder / (_FILES[role] + (_NEXT if following else ""))
    if following:
        path.unlink(missing_ok=True)  # of a rotation that never came to a root
    return make_key(path)


def online_signer(folder: Path, role: Online, root: Root) -> CryptoSigner:
    """The signer of an online role that ``root`` names. Raises InputError where no such key is there."""
    allowed = root.roles[role].keyids
    for path in (folder / _FILES[role], folder / (_FILES[role] + _NEXT)):
        if path.is_file():
            signer = CryptoSigner(load_private_key(path))
            if signer.public_key.keyid in allowed:
                return signer
    raise InputError(f"{folder / _FILES[role]} is missing, or not the key that the TUF root names for {role}")


def settle_online(folder: Path, roles: Iterable[Online]) -> None:
    """After a root that names them is out: the following keys take the places of the old ones, which are gone then."""
    for role in roles:
        following = folder / (_FILES[role] + _NEXT)
        if following.is_file():
            following.replace(folder / _FILES[role])


def make_root_keys(folder: Path, count: int) -> list[CryptoSigner]:
    """``count`` new root keys. Raises InputError where the folder has some already."""
    if any(folder.glob("*.key")):
        raise InputError(f"{folder} holds keys already: give a new folder for new root keys")
    return [make_key(folder / f"root-{number}.key") for number in range(1, count + 1)]


def root_signers(folder: Path) -> list[CryptoSigner]:
    """The root keys in a folder. Raises InputError where there are none."""
    paths = sorted(folder.glob("*.key"))
    if not paths:
        raise InputError(f"{folder} holds no root keys (*.key): bring the folder that was taken off this machine")
    return [CryptoSigner(load_private_key(path)) for path in paths]


def keep_beside(folder: Path, root_file: Path) -> None:
    """A copy of the public root metadata beside its keys, so that one backup holds what a new start needs."""
    shutil.copyfile(root_file, folder / root_file.name)
