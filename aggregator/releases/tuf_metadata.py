"""The files of a TUF repository's folder, and nothing of keys: written whole or not at all, old ones removed after a while.

metadata/  1.root.json ... N.targets.json N.snapshot.json timestamp.json
targets/   files/ and channels/, each file under its hash and name
"""

import os
import re
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp  # type: ignore[attr-defined]  # not in an __all__
from tuf.api.serialization import DeserializationError

from fedge.errors import InputError

T = TypeVar("T", Root, Snapshot, Targets, Timestamp)

_VERSIONED = re.compile(r"([0-9]+)\.(root|targets|snapshot)\.json")
OLD_FILES_S = 24 * 3600.0
"""Files that nothing names any more stay this long, for devices that are in the middle of a download."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file durably; a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staging = tempfile.mkstemp(prefix=".", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(staging).chmod(0o644)
    Path(staging).replace(path)


class MetadataFolder:
    """Reads and writes the four roles and the targets of one repository."""

    def __init__(self, folder: Path) -> None:
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"

    @property
    def root_file(self) -> Path:
        """The newest root's file. Raises InputError where there is none."""
        versions = [int(path.name.partition(".")[0]) for path in self.metadata.glob("*.root.json")]
        if not versions:
            raise InputError(f"{self.metadata} holds no TUF repository: run `fedge server init`")
        return self.metadata / f"{max(versions)}.root.json"

    def root(self) -> Metadata[Root]:
        """The newest root."""
        return self._read(self.root_file, Root)

    def timestamp(self) -> Metadata[Timestamp]:
        """The present timestamp."""
        return self._read(self.metadata / "timestamp.json", Timestamp)

    def snapshot(self) -> Metadata[Snapshot]:
        """The snapshot that the timestamp names."""
        version = self.timestamp().signed.snapshot_meta.version
        return self._read(self.metadata / f"{version}.snapshot.json", Snapshot)

    def offered(self) -> Metadata[Targets]:
        """The targets that the snapshot names."""
        version = self.snapshot().signed.meta["targets.json"].version
        return self._read(self.metadata / f"{version}.targets.json", Targets)

    def write_metadata(self, name: str, data: bytes) -> None:
        """Put a metadata file in place."""
        write_whole(self.metadata / name, data)

    def write_target(self, target: TargetFile, data: bytes) -> None:
        """Put a target in place where it is not there yet."""
        path = self._target_path(target)
        if not (path.is_file() and path.stat().st_size == len(data)):
            write_whole(path, data)

    def has_target(self, target: TargetFile) -> bool:
        """Return whether a target's file is in place."""
        return self._target_path(target).is_file()

    def remove_old(self, *, named: Collection[TargetFile], now: float) -> None:
        """Remove targets that nobody names and superseded metadata, once they are a day old; never a root."""
        current = {f"{self.snapshot().signed.version}.snapshot.json", f"{self.offered().signed.version}.targets.json"}
        keep = {self._target_path(target) for target in named}
        for path in self.metadata.iterdir():
            match = _VERSIONED.fullmatch(path.name)
            if match and match[2] != "root" and path.name not in current:
                _remove_if_old(path, now)
        for path in self.targets.glob("*/*"):
            if path not in keep:
                _remove_if_old(path, now)

    def _target_path(self, target: TargetFile) -> Path:
        return self.targets / target.get_prefixed_paths()[0]

    @staticmethod
    def _read(path: Path, kind: type[T]) -> Metadata[T]:
        try:
            metadata = Metadata[T].from_bytes(path.read_bytes())
        except (OSError, DeserializationError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        if not isinstance(metadata.signed, kind):
            raise InputError(f"{path} is not {kind.type} metadata")
        return metadata


def _remove_if_old(path: Path, now: float) -> None:
    try:
        if now - path.stat().st_mtime > OLD_FILES_S:
            path.unlink()
    except FileNotFoundError:
        pass
