"""A Flower node's own requests to SuperLink, over whatever carries them.

The one adapter around flwr's private fleet connection: which route takes which protobuf message, how a node proves itself,
and how a message is put together from its parts. How bytes travel comes in as a `Post`; nothing here opens a connection,
runs shipped code, or asks for any. Sizes are bounded before anything is put together.
"""

import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from importlib.metadata import version
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2
from flwr.proto.node_pb2 import Node
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf

from fedge.errors import FedgeError
from fedge.flower import (
    FLEET_PREFIX,
    PUBLIC_KEY_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    check_flower,
)

HEARTBEAT_INTERVAL_S = 15.0
"""What SuperLink is told: a node that was silent for twice as long is offline to it."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_OBJECTS = 64
OBJECT_TIMEOUT_S = 30.0
OBJECT_POLL_S = 0.02
PROOF_LIFE_S = 30.0
"""How long one signed time is used: SuperLink takes it for five minutes, and a signature costs more than the request."""

Answer = TypeVar("Answer", bound=Protobuf)


class Post(Protocol):
    """Carries one request to SuperLink: ``(status, body)`` of its answer. Raises FleetUnreachable when there was none."""

    def __call__(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """``headers`` prove which node asks."""


class FleetUnreachable(FedgeError):  # noqa: N818 - it comes back
    """Nothing came back: no network, or SuperLink is not there."""


class FleetRefused(FedgeError):  # noqa: N818 - an answer
    """SuperLink, or the door before it, refused the request."""

    def __init__(self, path: str, status: int) -> None:
        super().__init__(f"{path} was refused with status {status}")
        self.status = status


def node_public_key(private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """A node's public key as it is enrolled and registered: PEM."""
    return public_key_to_bytes(private_key.public_key())


class FleetApi:
    """One node's requests. Safe to use from two threads: requests go one after the other."""

    def __init__(self, post: Post, private_key: ec.EllipticCurvePrivateKey) -> None:
        check_flower(version("flwr"))
        self._post = post
        self._key = private_key
        self._public_key = node_public_key(private_key)
        self._lock = threading.Lock()
        self._proof: tuple[float, dict[str, str]] | None = None
        self._node = Node()

    @property
    def node_id(self) -> int:
        """The id that SuperLink gave this node; 0 before `activate`."""
        return int(self._node.node_id)

    def activate(self) -> int:
        """Report for duty; SuperLink refuses a key that is not registered."""
        request = fleet_pb2.ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=HEARTBEAT_INTERVAL_S)
        answer = self._ask("activate-node", request, fleet_pb2.ActivateNodeResponse)
        self._node = Node(node_id=answer.node_id)
        return self.node_id

    def deactivate(self) -> None:
        """Say that this node goes."""
        request = fleet_pb2.DeactivateNodeRequest(node_id=self.node_id)
        self._ask("deactivate-node", request, fleet_pb2.DeactivateNodeResponse)

    def heartbeat(self) -> bool:
        """Say that this node is there; False when SuperLink does not know it."""
        request = heartbeat_pb2.SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_INTERVAL_S)
        return bool(self._ask("send-node-heartbeat", request, heartbeat_pb2.SendNodeHeartbeatResponse).success)

    def pull(self) -> Message | None:
        """The next message for this node, complete, or None."""
        answer = self._ask("pull-messages", fleet_pb2.PullMessagesRequest(node=self._node), fleet_pb2.PullMessagesResponse)
        if not answer.messages_list:
            return None
        header = message_from_proto(answer.messages_list[0])
        message_id, run_id = header.metadata.message_id, header.metadata.run_id
        contents = self._contents(run_id, answer.message_object_trees[0])
        request = message_pb2.ConfirmMessageReceivedRequest(node=self._node, run_id=run_id, message_object_id=message_id)
        self._ask("confirm-message-received", request, message_pb2.ConfirmMessageReceivedResponse)
        try:
            message = inflate_object_from_contents(message_id, contents)
        except Exception as error:  # whatever flwr's parsers raise on bytes that are no message
            raise FleetRefused(f"a message ({type(error).__name__})", 422) from error
        if not isinstance(message, Message) or message.metadata.dst_node_id != self.node_id:
            raise FleetRefused("a message that is not for this node", 422)
        message.metadata.__dict__["_message_id"] = message_id
        return message

    def push(self, reply: Message, *, runtime_s: float) -> None:
        """Hand in the answer to a message that was pulled."""
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = get_all_nested_objects(reply)
            header = remove_content_from_message(reply) if reply.has_content() else reply
            answer = self._ask(
                "push-messages",
                fleet_pb2.PushMessagesRequest(
                    node=self._node,
                    messages_list=[message_to_proto(header)],
                    message_object_trees=[get_object_tree(reply)],
                    clientapp_runtime_list=[runtime_s],
                ),
                fleet_pb2.PushMessagesResponse,
            )
            wanted = set(answer.objects_to_push)
            for object_id, item in objects.items():
                if object_id in wanted:
                    self._push_object(reply.metadata.run_id, answer.session_id, object_id, item.deflate())

    def _push_object(self, run_id: int, session_id: str, object_id: str, content: bytes) -> None:
        request = message_pb2.PushObjectRequest(
            node=self._node, run_id=run_id, object_id=object_id, object_content=content, session_id=session_id
        )
        if not self._ask("push-object", request, message_pb2.PushObjectResponse).stored:
            raise FleetRefused("push-object (it came too late)", 409)

    def _contents(self, run_id: int, tree: message_pb2.ObjectTree) -> dict[str, bytes]:
        """Every part of a message by its id, within bounds."""
        contents: dict[str, bytes] = {}
        total = 0
        for part in iterate_object_tree(tree):
            if len(contents) >= MAX_OBJECTS:
                raise FleetRefused(f"a message of more than {MAX_OBJECTS} parts", 413)
            contents[part.object_id] = content = self._pull_object(run_id, part.object_id)
            total += len(content)
            if total > MAX_MESSAGE_BYTES:
                raise FleetRefused(f"a message of more than {MAX_MESSAGE_BYTES} bytes", 413)
        return contents

    def _pull_object(self, run_id: int, object_id: str) -> bytes:
        deadline = time.monotonic() + OBJECT_TIMEOUT_S
        request = message_pb2.PullObjectRequest(node=self._node, run_id=run_id, object_id=object_id)
        while True:
            answer = self._ask("pull-object", request, message_pb2.PullObjectResponse)
            if answer.object_found and answer.object_available:
                return answer.object_content
            # Announced before it is sent: it may still be on its way.
            if not answer.object_found or time.monotonic() > deadline:
                raise FleetRefused("pull-object (a part of a message is missing)", 404)
            time.sleep(OBJECT_POLL_S)

    def _ask(self, route: str, request: Protobuf, kind: type[Answer]) -> Answer:
        path = FLEET_PREFIX + route
        body = request.SerializeToString(deterministic=True)
        with self._lock:
            status, given = self._post(path, self._headers(), body)
        if status != 200:
            raise FleetRefused(path, status)
        answer = kind()
        try:
            answer.ParseFromString(given)
        except DecodeError:
            raise FleetRefused(f"{path} (its answer cannot be read)", 502) from None
        return answer

    def _headers(self) -> dict[str, str]:
        moment = time.monotonic()
        if self._proof is None or moment - self._proof[0] > PROOF_LIFE_S:
            stamp = now().isoformat()
            signature = sign_message(self._key, stamp.encode("ascii"))
            self._proof = (
                moment,
                {
                    PUBLIC_KEY_HEADER: b64encode(self._public_key).decode("ascii"),
                    TIMESTAMP_HEADER: stamp,
                    SIGNATURE_HEADER: b64encode(signature).decode("ascii"),
                },
            )
        return self._proof[1]
