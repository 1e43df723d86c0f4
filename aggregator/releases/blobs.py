"""Files by the hash of their content: each stands once on the disk, however many releases share it."""

import hashlib
import os
import re
import tempfile
from collections.abc import Collection
from pathlib import Path

from fedge.errors import InputError, VerificationError

_HASH = re.compile(r"[0-9a-f]{64}")


class BlobFolder:
    """A folder of content-addressed files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Stores ``data`` durably and returns its hex SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._folder / digest
        if not path.exists():
            descriptor, staging = tempfile.mkstemp(prefix=".", dir=self._folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(staging).replace(path)
        return digest

    def get(self, digest: str) -> bytes:
        """The content of a hash. Raises InputError for an unknown one, VerificationError where the disk changed it."""
        if not _HASH.fullmatch(digest):  # also keeps path separators out
            raise InputError(f"{digest[:80]!r} is not a SHA-256 in hexadecimal")
        try:
            data = (self._folder / digest).read_bytes()
        except FileNotFoundError:
            raise InputError(f"no file with the hash {digest[:12]} is stored") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise VerificationError(f"the stored file {digest[:12]} is damaged: publish its release again")
        return data

    def __contains__(self, digest: str) -> bool:
        return bool(_HASH.fullmatch(digest)) and (self._folder / digest).is_file()

    def keep_only(self, digests: Collection[str]) -> int:
        """Deletes every stored file whose hash is not among ``digests``; returns how many."""
        unwanted = [path for path in self._folder.iterdir() if _HASH.fullmatch(path.name) and path.name not in digests]
        for path in unwanted:
            path.unlink()
        return len(unwanted)
