"""Where a device keeps the files of the release that it runs: a folder, or a dictionary that a simulated fleet shares.

Keeps, never judges: what comes off the shelf is verified again before it is loaded.
"""

import re
import shutil
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedge.release import Release, read_release, write_release

_RELEASE_ID = re.compile(r"[0-9a-f]{64}")


class Shelf(Protocol):
    """Keeps releases by id."""

    def put(self, release: Release) -> None:
        """Keep ``release``."""

    def get(self, release_id: str) -> Release | None:
        """The release kept under that id, or None."""

    def drop_others(self, *release_ids: str) -> None:
        """Let go of every release but these."""


class FolderShelf:
    """One folder a release, named by its id."""

    def __init__(self, folder: Path, release_key: Ed25519PublicKey) -> None:
        self._folder = folder
        self._release_key = release_key

    def put(self, release: Release) -> None:
        """Write the release as a whole; nothing is there until all of it is on disk."""
        # Only releases that verified come here, so a folder of that name with other contents is a damaged one.
        write_release(self._folder / release.release_id, release, replace=True)

    def get(self, release_id: str) -> Release | None:
        """Read and verify. Raises VerificationError for a damaged folder."""
        folder = self._folder / release_id
        return read_release(folder, self._release_key) if folder.is_dir() else None

    def drop_others(self, *release_ids: str) -> None:
        """Remove the folders of other releases; anything else in the folder stays."""
        for entry in self._folder.iterdir() if self._folder.is_dir() else ():
            if entry.is_dir() and entry.name not in release_ids and _RELEASE_ID.fullmatch(entry.name):
                shutil.rmtree(entry, ignore_errors=True)


class SharedShelf:
    """Releases in memory, for the many devices of a simulated fleet: each knows by its own store which one it has."""

    def __init__(self) -> None:
        self._releases: dict[str, Release] = {}

    def put(self, release: Release) -> None:
        """Keep the release."""
        self._releases.setdefault(release.release_id, release)

    def get(self, release_id: str) -> Release | None:
        """The release, or None."""
        return self._releases.get(release_id)

    def drop_others(self, *release_ids: str) -> None:
        """Nothing: another device may still run another release."""
