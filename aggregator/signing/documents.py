"""The two files that travel between server and signing machine. Neither holds a secret; both sides check all of them."""

import base64
import binascii
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from fedge.errors import InputError
from fedge.identity.files import read_file, write_file

MAX_FILE_BYTES = 1 << 30


def _decode(value: object) -> object:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from None
    return value


Blob = Annotated[
    bytes,
    BeforeValidator(_decode),
    PlainSerializer(lambda data: base64.b64encode(data).decode("ascii"), when_used="json"),
]
"""Bytes, base64 in JSON."""


class Document(BaseModel):
    """A JSON file with fixed fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def write(self, path: Path) -> None:
        """Write the file in one step. Raises InputError."""
        write_file(path, self.model_dump_json().encode())


T = TypeVar("T", bound=Document)


class UnsignedRelease(Document):
    """A release that a round built: its manifest, whose SHA-256 is the release's id, and its files."""

    manifest: Blob
    files: dict[str, Blob]


class UnsignedCertificate(Document):
    """A round's statement about a release."""

    release_id: str
    statement: Blob


class Pending(Document):
    """What a round waits for; one of the two."""

    release: UnsignedRelease | None = None
    certificate: UnsignedCertificate | None = None


class SigningRequest(Document):
    """What a server asks to have signed. ``devices``: enrollment requests as the devices signed them.

    ``targets``: every TUF target by its path, as they are to be once ``pending`` is signed: without the signatures, and with
    channels that name no certificate for the release whose certificate is pending. ``root``: the TUF root that counts.
    """

    kind: Literal["fedge-signing-request/1"] = "fedge-signing-request/1"
    federation: str
    devices: list[Blob]
    revoked: dict[str, str]
    targets_version: int
    targets: dict[str, Blob]
    root: Blob
    pending: Pending


class SigningReply(Document):
    """What the signing machine signed.

    ``certificates``: of devices, for some days ahead. ``targets``: TUF metadata. ``root``: a newer TUF root, where the
    present one runs out soon. ``signature``: on the manifest of ``release_id``. ``certificate``: the signed statement.
    """

    kind: Literal["fedge-signing-reply/1"] = "fedge-signing-reply/1"
    revocations: Blob
    certificates: list[Blob]
    targets: Blob | None = None
    root: Blob | None = None
    release_id: str | None = None
    signature: Blob | None = None
    certificate: Blob | None = None


def read_document(kind: type[T], path: Path) -> T:
    """Return the document in a file. Raises InputError for another kind of file."""
    try:
        return kind.model_validate_json(read_file(path, max_bytes=MAX_FILE_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{path} cannot be used: {where}: {first['msg']}") from None
