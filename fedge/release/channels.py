"""Which release a device should run: two signed pointers, and the draw that says which of them a device follows.

``stable`` is for all. ``canary`` names a release that a share of the devices takes first; which ones follows from a hash of
device and release, so that nobody keeps a list and another release meets other devices. Pure values: TUF signs and carries
them.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from fedge.errors import InputError, VerificationError
from fedge.release.canonical import from_canonical, hex_bytes, require_keys, to_canonical

STABLE, CANARY = "stable", "canary"
CHANNELS = (STABLE, CANARY)
MAX_POINTER_BYTES = 64 * 1024
MAX_WITHDRAWN = 256
_KEYS = ("certificate", "release_id", "share", "version", "withdrawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPointer:
    """Where a channel points. ``certificate``: hex SHA-256 of the certificate document, None where there is none.

    ``withdrawn``: releases that were taken back, newest last: a device that runs one of them may go to an older version, any
    other may not.
    """

    release_id: str | None
    version: int
    certificate: str | None
    share: float
    withdrawn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            _check(self)
        except VerificationError as error:
            raise InputError(str(error)) from None

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        mapping: dict[str, Any] = {name: getattr(self, name) for name in _KEYS}
        return to_canonical({**mapping, "share": float(self.share), "withdrawn": list(self.withdrawn)})

    @staticmethod
    def from_bytes(data: bytes) -> "ChannelPointer":
        """Reads what ``to_bytes`` wrote. Raises VerificationError for anything else."""
        mapping = from_canonical(data, what="channel", max_bytes=MAX_POINTER_BYTES)
        require_keys(mapping, _KEYS, what="channel")
        if not isinstance(mapping["withdrawn"], list):
            raise VerificationError("channel: withdrawn is not a list")
        try:
            return ChannelPointer(**{**mapping, "withdrawn": tuple(mapping["withdrawn"])})
        except InputError as error:
            raise VerificationError(str(error)) from None


def pointer_path(channel: str) -> str:
    """TUF's name of a channel's pointer."""
    return f"channels/{channel}.json"


def file_path(sha256: str) -> str:
    """TUF's name of a file of a release, a manifest (its hash is the release's id) or a certificate document."""
    return f"files/{sha256}"


def signature_path(release_id: str) -> str:
    """TUF's name of the release key's signature on a manifest."""
    return f"signatures/{release_id}"


def in_canary(device_id: str, release_id: str, share: float) -> bool:
    """Whether a device takes ``release_id`` first: the SHA-256 of both, as a fraction of its range, is below ``share``."""
    drawn = hashlib.sha256(f"fedge/canary/{release_id}/{device_id}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < share * 2**64


def _check(pointer: ChannelPointer) -> None:
    if pointer.release_id is not None:
        hex_bytes(pointer.release_id, 32, what="channel: release_id")
    elif pointer.certificate is not None:
        raise VerificationError("channel: a certificate without a release")
    if pointer.certificate is not None:
        hex_bytes(pointer.certificate, 32, what="channel: certificate")
    if type(pointer.version) is not int or not 0 <= pointer.version < 2**31:
        raise VerificationError("channel: version is out of range")
    if type(pointer.share) not in (int, float) or not 0 <= pointer.share <= 1:
        raise VerificationError("channel: share is not between 0 and 1")
    if len(pointer.withdrawn) > MAX_WITHDRAWN:
        raise VerificationError(f"channel: more than {MAX_WITHDRAWN} withdrawn releases")
    for release_id in pointer.withdrawn:
        hex_bytes(release_id, 32, what="channel: withdrawn")
