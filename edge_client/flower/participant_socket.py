"""The device's participant for another process of the same device: an official SuperNode runs its app in one of its own.

A Unix socket in the device's folder (mode 0600), one request a connection, bytes in and bytes out. The session's state, the
models and the database stay in the agent, so that a process that is gone after each message loses nothing.
"""

import logging
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge_client.refusal import SessionRefused
from fedge import logs
from fedge.errors import InputError
from fedge.secagg import RefusedError

_log = logging.getLogger(__name__)

STEPS = ("check_in", "roster", "shares", "consistency", "unmask")
MAX_PART_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 300.0
LOOK_S = 0.5
ANSWER, VECTOR, REFUSAL = 0, 1, 2
_HEAD = struct.Struct(">BI")


class Steps(Protocol):
    """What a participant does in a session."""

    def check_in(self, payload: bytes) -> bytes:
        """Step 0."""

    def roster(self, payload: bytes) -> bytes:
        """Steps 1 and 2."""

    def shares(self, payload: bytes) -> tuple[bytes, bytes | None]:
        """Step 3."""

    def consistency(self, payload: bytes) -> bytes:
        """Step 4."""

    def unmask(self, payload: bytes) -> bytes:
        """Step 5."""


class RemoteParticipant:
    """The participant of the agent that serves ``path``. Raises SessionRefused for what it refuses, or without an agent."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check_in(self, payload: bytes) -> bytes:
        """Step 0."""
        return self._ask("check_in", payload)[0]

    def roster(self, payload: bytes) -> bytes:
        """Steps 1 and 2."""
        return self._ask("roster", payload)[0]

    def shares(self, payload: bytes) -> tuple[bytes, bytes | None]:
        """Step 3."""
        return self._ask("shares", payload)

    def consistency(self, payload: bytes) -> bytes:
        """Step 4."""
        return self._ask("consistency", payload)[0]

    def unmask(self, payload: bytes) -> bytes:
        """Step 5."""
        return self._ask("unmask", payload)[0]

    def _ask(self, step: str, payload: bytes) -> tuple[bytes, bytes | None]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(str(self._path))
                _send(connection, STEPS.index(step), payload)
                kind, answer = _receive(connection)
                vector = _receive(connection)[1] if kind == VECTOR else None
        except (OSError, EOFError) as error:
            raise SessionRefused(f"this device's agent does not answer: {error!r}") from error
        if kind == REFUSAL:
            raise SessionRefused(answer.decode(errors="replace"))
        return answer, vector


def serve_participant(participant: Steps, path: Path, *, stop: threading.Event) -> None:
    """Answer for ``participant`` on ``path`` until ``stop`` is set. Raises InputError for a path that cannot be a socket."""
    fresh = path.with_suffix(".new")  # put in place once it listens, so that whoever finds it can connect
    fresh.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(fresh))
        except OSError as error:
            raise InputError(f"{path} cannot be a socket ({error}): move the device's folder to a shorter path") from error
        fresh.chmod(0o600)
        listener.listen(4)
        fresh.replace(path)
        listener.settimeout(LOOK_S)
        try:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection, logs.context():  # what the participant binds to log lines ends with the step
                    _answer(participant, connection)
        finally:
            path.unlink(missing_ok=True)


def _answer(participant: Steps, connection: socket.socket) -> None:
    try:
        connection.settimeout(TIMEOUT_S)
        number, payload = _receive(connection)
        try:
            answer, vector = _step(participant, number, payload)
        except SessionRefused as refused:
            _log.info("a session's step was refused: %s", refused)
            _send(connection, REFUSAL, str(refused).encode())
            return
        except RefusedError as error:  # a rule of this device: no fault, and the log says which
            _log.warning("this device takes no part in the session: %s", error)
            _send(connection, REFUSAL, f"the device refused: {type(error).__name__}".encode())
            return
        except Exception as error:  # its text may tell of the device: only its kind leaves, as in `client_app`
            _log.warning("a session's step failed", exc_info=error)
            _send(connection, REFUSAL, f"the device refused: {type(error).__name__}".encode())
            return
        _send(connection, ANSWER if vector is None else VECTOR, answer)
        if vector is not None:
            _send(connection, VECTOR, vector)
    except (OSError, EOFError) as error:
        _log.warning("the SuperNode's app went away: %r", error)


def _step(participant: Steps, number: int, payload: bytes) -> tuple[bytes, bytes | None]:
    if number >= len(STEPS):
        raise SessionRefused("there is no such step")
    if STEPS[number] == "shares":
        return participant.shares(payload)
    step: Callable[[bytes], bytes] = getattr(participant, STEPS[number])
    return step(payload), None


def _send(connection: socket.socket, kind: int, part: bytes) -> None:
    connection.sendall(_HEAD.pack(kind, len(part)))
    connection.sendall(part)


def _receive(connection: socket.socket) -> tuple[int, bytes]:
    kind, size = _HEAD.unpack(_exactly(connection, _HEAD.size))
    if size > MAX_PART_BYTES:
        raise EOFError(f"a part of {size} bytes")
    return kind, _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = connection.recv(min(size - len(received), 1 << 20))
        if not chunk:
            raise EOFError("the other side went away")
        received += chunk
    return bytes(received)
