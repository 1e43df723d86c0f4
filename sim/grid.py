"""Flower's `Grid` in one process: a message is handed to the destination's own `ClientApp` when its reply is pulled.

Only the transport is replaced. Messages are rebuilt from their serialized parts on the way, so that the two ends share no
objects; a device that is absent by plan leaves its messages unanswered, as a real one would.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
SERVER_NODE = 1
# Flower's code for "the ClientApp raised an exception".
CLIENT_APP_RAISED = 2


@dataclass(frozen=True, slots=True)
class Node:
    """One simulated device as Flower sees it."""

    app: ClientApp
    context: Context


def node_context(node_id: int) -> Context:
    """A Flower context for a node without configuration: devices keep their state in their own store."""
    return Context(run_id=RUN_ID, node_id=node_id, node_config={}, state=RecordDict(), run_config={})


class InProcessGrid(Grid):
    """Delivers messages to `ClientApp`s in this process, in the order in which they were pushed.

    ``absent(node_id, message_type, group_id)`` says whether the device has left before it could answer this message.
    """

    def __init__(self, nodes: Mapping[int, Node], *, absent: Callable[[int, str, str], bool]) -> None:
        self._nodes = dict(nodes)
        self._absent = absent
        self._undelivered: dict[str, Message] = {}
        self._run = Run.create_empty(RUN_ID)
        TaskIdentity.task_id = 1
        TaskIdentity.run_id = RUN_ID
        TaskIdentity.node_id = SERVER_NODE

    def set_run(self, run: Run) -> None:
        """Take over a run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node, as Flower's constructor makes it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All simulated nodes: a fleet's heartbeat is slower than a session, so absence shows in missing replies only."""
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages for delivery; those to absent devices are lost on the way."""
        identifiers = []
        for message in messages:
            identifier = uuid4().hex
            identifiers.append(identifier)
            metadata = message.metadata
            metadata.__dict__["_message_id"] = identifier
            if not self._absent(metadata.dst_node_id, metadata.message_type, metadata.group_id):
                self._undelivered[identifier] = message
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Deliver the messages with these ids now and hand out the replies, each once."""
        return [self._deliver(self._undelivered.pop(each), each) for each in message_ids if each in self._undelivered]

    def _deliver(self, message: Message, identifier: str) -> Message:
        node = self._nodes[message.metadata.dst_node_id]
        delivered = _rebuilt(message)
        delivered.metadata.__dict__["_message_id"] = identifier
        try:
            return node.app(message=delivered, context=node.context)
        except Exception as error:  # Flower's own engines answer for a ClientApp that raised; so does this one.
            return Message(Error(code=CLIENT_APP_RAISED, reason=f"{type(error).__name__}: {error}"), reply_to=delivered)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push and pull in one step; ``timeout`` has no meaning where replies are immediate."""
        return self.pull_messages(list(self.push_messages(messages)))


def _rebuilt(message: Message) -> Message:
    """The same message from fresh copies of its serialized parts."""
    content = RecordDict()
    for name, config in message.content.config_records.items():
        content[name] = ConfigRecord(dict(config))
    for name, arrays in message.content.array_records.items():
        content[name] = ArrayRecord(
            {key: Array(array.dtype, tuple(array.shape), array.stype, bytes(array.data)) for key, array in arrays.items()}
        )
    metadata = message.metadata
    return Message(content, metadata.dst_node_id, metadata.message_type, ttl=metadata.ttl, group_id=metadata.group_id)
