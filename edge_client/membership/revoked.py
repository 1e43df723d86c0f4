"""Who is revoked, as the newest signed list on the device says it, and how old that is; read again when the file changes."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from fedge.identity import RevocationList, TrustRoot


class RevokedDevices(Collection[str]):
    """The device ids of the list in a file; none while there is no file. Raises VerificationError for a forged list."""

    def __init__(self, path: Path, trust: Callable[[], TrustRoot]) -> None:
        self._path = path
        self._trust = trust
        self._seen: tuple[int, int] | None = None
        self._list = RevocationList(0, 0.0, frozenset())

    def issued_at(self) -> float:
        """When the authority signed the list, UNIX seconds; 0 while there is none: then it is too old for any session."""
        return self._current().issued_at

    def _current(self) -> RevocationList:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return self._list
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._list = self._trust().read_revocations(self._path.read_bytes(), status.st_mtime)
            self._seen = seen
        return self._list

    def __contains__(self, device_id: object) -> bool:
        return device_id in self._current().device_ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._current().device_ids)

    def __len__(self) -> int:
        return len(self._current().device_ids)
