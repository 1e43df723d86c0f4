"""Which agent runs in a device's home: one at a time, and where its local API is. For the agent itself and for commands."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_client.settings import DeviceHome
from fedge.errors import InputError

_FILE, _LOCK = "agent.json", "lock"


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """Where an agent's local API listens, and its process."""

    url: str
    pid: int
    device_id: str

    def write(self, home: DeviceHome) -> None:
        """Leave it in the home for others, in one step."""
        staging = home.run / f".{_FILE}"
        staging.write_text(json.dumps(asdict(self)), encoding="utf-8")
        staging.replace(home.run / _FILE)

    @staticmethod
    def of(home: DeviceHome) -> "RunningAgent | None":
        """The agent that runs in ``home``, or None."""
        try:
            document = json.loads((home.run / _FILE).read_text(encoding="utf-8"))
            found = RunningAgent(str(document["url"]), int(document["pid"]), str(document["device_id"]))
            os.kill(found.pid, 0)
        except PermissionError:
            return found  # it runs, as another user
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found


def forget(home: DeviceHome) -> None:
    """Take the address away: the agent no longer listens."""
    (home.run / _FILE).unlink(missing_ok=True)


@contextmanager
def only_one(home: DeviceHome) -> Iterator[None]:
    """Holds the home for this process. Raises InputError where another agent runs in it."""
    _private_folder(home.run)
    with (home.run / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"an agent runs in {home.folder} already: stop it first") from None
        yield


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}") from None
