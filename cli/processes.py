"""Processes in the background: started in a group of their own, remembered on disk, and ended exactly.

A process is known by its number, when it began and a random mark in its environment, never by its name: a number that the
system gave to a stranger meanwhile is left alone. Ending means SIGTERM, some time, then SIGKILL for what is left of the
group.
"""

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fedge.errors import FedgeError

MARK = "FEDGE_PROCESS_MARK"
POLL_S = 0.05
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Background:
    """One process as it is remembered. ``began``: the system's own word for when, opaque, never read as a time."""

    name: str
    pid: int
    began: str
    mark: str

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return _began(self.pid) == self.began and (self._is_marked(self.pid) or not _PROC.is_dir())

    def members(self) -> list[int]:
        """Process numbers of what is left of its group."""
        if not _PROC.is_dir():
            return [self.pid] if self.is_alive() else []
        group = _group(self.pid)
        if self.is_alive():
            return group
        # Without its leader a group has only its number, which may be a stranger's by now: the mark tells.
        return [pid for pid in group if self._is_marked(pid)]

    def _is_marked(self, pid: int) -> bool:
        try:
            return f"{MARK}={self.mark}".encode() in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class ProcessFolder:
    """Remembers processes in ``folder``, one file each; their output goes to ``logs``."""

    folder: Path
    logs: Path

    def start(self, name: str, command: Sequence[str], *, environment: Mapping[str, str]) -> "Started":
        """Start ``command`` apart from this terminal, its output appended to the log of ``name``."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = secrets.token_hex(16)
        with self.log(name).open("ab") as log:
            begins_at = log.tell()
            process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**environment, MARK: mark},
            )
        background = Background(name, process.pid, _began(process.pid) or "", mark)
        self._file(name).write_text(json.dumps(asdict(background)), encoding="utf-8")
        return Started(background, process, self.log(name), begins_at)

    def log(self, name: str) -> Path:
        """Where the output of ``name`` goes."""
        return self.logs / f"{name}.log"

    def remembered(self) -> list[Background]:
        """Everything that was started and not yet ended by `stop`, whether it still runs or not."""
        found = []
        for path in sorted(self.folder.glob("*.process.json")):
            try:
                found.append(Background(**json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError, TypeError) as error:
                raise FedgeError(f"{path} cannot be read ({error}): end that process by hand and delete the file") from None
        return found

    def stop(self, processes: Iterable[Background], *, grace_s: float = 15.0) -> list[str]:
        """End these and forget them; returns the names of those that had to be killed."""
        ending = list(processes)
        for one in ending:
            for pid in [one.pid] if one.is_alive() else one.members():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while any(one.members() for one in ending) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        killed = []
        for one in ending:
            if left := one.members():
                killed.append(one.name)
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self._file(one.name).unlink(missing_ok=True)
        return killed

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.process.json"


@dataclass(frozen=True, slots=True, eq=False)
class Started:
    """A process that this one started. ``log_begins_at``: where in the log, in bytes, its own output begins."""

    background: Background
    process: "subprocess.Popen[bytes]"
    log: Path
    log_begins_at: int

    @property
    def name(self) -> str:
        """What it is called."""
        return self.background.name

    def has_ended(self) -> bool:
        """Whether it is over; takes it off the system's list then."""
        return self.process.poll() is not None

    def output(self) -> str:
        """What it has said so far."""
        with self.log.open("rb") as stream:
            stream.seek(self.log_begins_at)
            return stream.read().decode("utf-8", "replace")

    def last_words(self, lines: int = 12) -> str:
        """The end of its output."""
        return "\n".join(self.output().strip().splitlines()[-lines:])


def _began(pid: int) -> str | None:
    """When the process began: clock ticks since this boot, or `ps`'s words where there is no /proc; None if it is over."""
    if not _PROC.is_dir():
        shown = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603
        return shown.stdout.strip() or None
    fields = _stat(pid)
    if fields is None or fields[0] in ("Z", "X"):  # ended, and merely not taken off the list by its parent
        return None
    return f"{_boot()}/{fields[19]}"


def _group(number: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for path in _PROC.iterdir():
        if path.name.isdigit() and (fields := _stat(int(path.name))) is not None:
            state, group = fields[0], fields[2]
            if group == str(number) and state not in ("Z", "X"):
                found.append(int(path.name))
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name, which may hold anything: state, parent, group, ..."""
    try:
        return (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
