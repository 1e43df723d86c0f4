"""Requests to devices over Flower's `Grid`, with deadlines of our own.

Flower's `send_and_receive` sleeps seconds between polls and waits up to an hour for a slow node. Here a request is pushed,
and replies are pulled with a short poll until everyone answered or the deadline passed: who has not answered by then is
absent, and the protocol decides whether it can go on without. Replies are pulled a few at a time and handed on as they
come, so that a cohort's vectors never lie in memory together. Nothing is ever unpickled; replies are bytes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

from fedge.secagg import MessageError

PAYLOAD = "payload"
VECTOR = "vector"
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
MAX_REASON = 300
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, DecodeError)
"""What Flower raises while it puts a reply together from what a device made up. A lost connection is none of these."""
PULL_BATCH = 1
"""Replies pulled at a time where a grid gives them all at once: each may hold a vector, and one that cannot be read must
take no other one with it.
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one device answered: a serialized protocol message and, in the masked-input step, the vector's raw bytes."""

    payload: bytes
    vector: bytes | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to many devices: who answered, why a node that answered without content did so, and whose reply was
    refused because it is none.

    Bytes are those of payloads: ``bytes_up`` without the vectors, which are counted apart.
    """

    answered: frozenset[int]
    failures: Mapping[int, str]
    refused: Mapping[int, MessageError]
    bytes_down: int
    bytes_up: int
    bytes_vectors: int


class DeviceLink:
    """Sends one action to many nodes and gathers the replies that arrive in time.

    ``clock`` and ``sleep`` are seconds of the same clock: the wall clock of a fleet, or the simulated one. ``batch`` replies
    are asked for at a time: all of them from a grid that fetches each only when it is taken.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        poll_s: float = 0.05,
        batch: int = PULL_BATCH,
    ) -> None:
        self._grid = grid
        self._clock = clock
        self._sleep = sleep
        self._poll_s = poll_s
        self._batch = batch

    def nodes(self) -> list[int]:
        """Nodes that are connected now, ascending."""
        return sorted(self._grid.get_node_ids())

    def exchange(
        self, action: str, requests: Mapping[int, bytes], take: Callable[[int, Reply], None], *, group: str, timeout_s: float
    ) -> Exchange:
        """Send ``requests`` (by node) as message type ``action``; ``take(node, reply)`` gets each reply as it comes.

        Waits at most ``timeout_s`` for the last one.
        """
        messages = [
            Message(
                RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: payload})}), node, action, group_id=group, ttl=timeout_s + 60.0
            )
            for node, payload in requests.items()
        ]
        identifiers = self._grid.push_messages(messages)
        # A reply counts for the node that was asked, whatever sender it names.
        pending = {identifier: node for identifier, node in zip(identifiers, requests, strict=True) if identifier}
        deadline = self._clock() + timeout_s
        answered: set[int] = set()
        failures: dict[int, str] = {}
        refused: dict[int, MessageError] = {}
        bytes_up = bytes_vectors = 0
        while pending:
            waiting = list(pending)
            for start in range(0, len(waiting), self._batch):
                for identifier, reply in self._pull(waiting[start : start + self._batch]):
                    node = pending.pop(identifier, None)
                    if node is None:
                        continue
                    if isinstance(reply, MessageError):
                        refused[node] = reply
                    elif isinstance(reply, str):
                        failures[node] = reply
                    else:
                        answered.add(node)
                        bytes_up += len(reply.payload)
                        bytes_vectors += len(reply.vector or b"")
                        take(node, reply)
            if not pending or self._clock() >= deadline:
                break
            self._sleep(self._poll_s)
        return Exchange(
            frozenset(answered),
            failures,
            refused,
            bytes_down=sum(map(len, requests.values())),
            bytes_up=bytes_up,
            bytes_vectors=bytes_vectors,
        )

    def _pull(self, identifiers: list[str]) -> Iterator[tuple[str, Reply | str | MessageError]]:
        """Who was asked and what came of it: a reply, a line that says why there is no content, or why it is refused.

        A reply that Flower cannot put together ends the iteration: a grid that is asked for many must not raise there.
        """
        try:
            for message in self._grid.pull_messages(identifiers):
                try:
                    yield message.metadata.reply_to_message_id, _read_reply(message)
                except MessageError as error:
                    yield message.metadata.reply_to_message_id, error
        except UNREADABLE as error:
            if len(identifiers) > 1:
                raise
            yield identifiers[0], MessageError(_one_line(f"Flower cannot read the reply: {type(error).__name__}: {error}"))


def _read_reply(message: Message) -> Reply | str:
    """The reply's bytes, or one line that says why the device gave none. Raises MessageError for a reply of no such form."""
    if message.has_error():
        return _one_line(message.error.reason or f"Flower error {message.error.code}")
    config = message.content.config_records.get(PAYLOAD)
    payload = config.get(PAYLOAD) if config is not None else None
    if not isinstance(payload, bytes):
        raise MessageError("the reply carries no payload")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MessageError(f"the reply's payload has {len(payload)} bytes, more than {MAX_PAYLOAD_BYTES}")
    arrays = message.content.array_records.get(VECTOR)
    vector = arrays.get(VECTOR) if arrays is not None else None
    return Reply(payload, None if vector is None else vector.data)


def _one_line(reason: str) -> str:
    """A device's own words, cut and without control characters: they go into logs and into the database."""
    return "".join(character if character.isprintable() else " " for character in reason[:MAX_REASON])
