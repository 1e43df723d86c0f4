"""The rounds' state on the disk of the rounds process: what a new run goes on from after any crash.

One file holds the state after the last finished round, another which attempt of the round at hand was begun. Both are
written beside the old one, forced to the disk, and renamed: a kill or a power cut leaves the old or the new, never half.
"""

import json
import os
from pathlib import Path

from aggregator.disk_space import Retry, once
from aggregator.rounds.state import FederationState
from fedge.errors import InputError

STATE = "state.bin"
ATTEMPT = "attempt.json"


class StateFolder:
    """One federation's state. Also the `AttemptLog` of its rounds. ``retry`` does each write."""

    def __init__(self, folder: Path, *, retry: Retry = once) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._retry = retry

    def save(self, state: FederationState) -> None:
        """A round is over; on the disk when this returns."""
        self._retry(lambda: self._write(STATE, state.to_bytes()))

    def load(self, other: bytes | None = None) -> FederationState | None:
        """The state to go on from: the later of the file's and ``other`` (the database's), or None. Raises InputError."""
        path = self._folder / STATE
        found = [path.read_bytes()] if path.exists() else []
        states = [FederationState.from_bytes(data) for data in (*found, *([other] if other is not None else []))]
        return max(states, key=lambda state: state.round_number, default=None)

    def last(self, round_number: int) -> int:
        """The last attempt of this round that was begun; 0 before the first. Raises InputError."""
        path = self._folder / ATTEMPT
        if not path.exists():
            return 0
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            return int(noted["attempt"]) if noted["round"] == round_number else 0
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}): restore it from the backup or delete it") from error

    def begin(self, round_number: int, attempt: int) -> None:
        """An attempt is about to begin; on the disk when this returns."""
        noted = json.dumps({"round": round_number, "attempt": attempt}).encode()
        self._retry(lambda: self._write(ATTEMPT, noted))

    def _write(self, name: str, data: bytes) -> None:
        temporary = self._folder / f".{name}.part"
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._folder / name)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
