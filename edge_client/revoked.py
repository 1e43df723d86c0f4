"""Who is revoked, as the newest signed list on the device says it; read again whenever the file changes."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from fedge.identity import TrustRoot


class RevokedDevices(Collection[str]):
    """The device ids of the list in a file; none while there is no file. Raises VerificationError for a forged list."""

    def __init__(self, path: Path, trust: Callable[[], TrustRoot]) -> None:
        self._path = path
        self._trust = trust
        self._seen: tuple[int, int] | None = None
        self._ids: frozenset[str] = frozenset()

    def _current(self) -> frozenset[str]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return self._ids
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._ids = self._trust().read_revocations(self._path.read_bytes(), status.st_mtime).device_ids
            self._seen = seen
        return self._ids

    def __contains__(self, device_id: object) -> bool:
        return device_id in self._current()

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())
