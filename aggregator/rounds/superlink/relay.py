"""The relay of the fleet door: a device's Flower node reaches SuperLink through it, and nothing else of SuperLink.

A request passes when its route is one of a node's, its size fits that route, and its node key is the one that was enrolled
for the device that the client certificate names: a device speaks as its own node only. SuperLink checks the signature. The
relay keeps nothing and retries nothing.
"""

import asyncio
import binascii
import http.client
import logging
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
from flwr.proto.fleet_pb2 import PushMessagesRequest
from google.protobuf.message import DecodeError

from aggregator.fleet.peers import Context, caller
from aggregator.rounds.superlink.kept import KeptConnections
from fedge.flower import FLEET_PREFIX, PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from protos.fedge.fleet.v1 import relay_pb2, relay_pb2_grpc

_log = logging.getLogger(__name__)

_SMALL = 64 * 1024
MAX_BODY_BYTES = {
    "activate-node": _SMALL,
    "deactivate-node": _SMALL,
    "send-node-heartbeat": _SMALL,
    "pull-messages": _SMALL,
    "push-messages": _SMALL,
    "get-run": _SMALL,
    "get-fab": _SMALL,
    "pull-object": _SMALL,
    "push-object": 15 * 1024 * 1024,
    "confirm-message-received": _SMALL,
}
"""The routes that pass, with the most that a request may weigh. Registering a node is not among them."""

MAX_HEADER_CHARACTERS = 1024
TIMEOUT_S = 45.0
WORKERS = 32


@dataclass(frozen=True, slots=True)
class Destination:
    """Where SuperLink listens on loopback, and the PEM file that its certificate is checked against."""

    address: str
    certificate: Path


class Refused(Exception):  # noqa: N818 - an answer
    """A request that does not pass, with what the caller is told."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class RelayServicer(relay_pb2_grpc.RelayServicer):
    """The service. ``node_key`` gives the key (PEM) that was enrolled for a device, or None.

    Behind `aggregator.fleet.peers.Admission`, which turns revoked devices away on each call.
    """

    def __init__(self, destination: Destination, *, node_key: Callable[[str], bytes | None]) -> None:
        self._node_key = node_key
        self._way = KeptConnections(
            destination.address, lambda: destination.certificate.read_text(encoding="ascii"), timeout_s=TIMEOUT_S
        )
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="relay")

    async def Relay(  # noqa: N802 - the name in the proto file
        self, request: "relay_pb2.RelayRequest", context: Context
    ) -> "relay_pb2.RelayResponse":
        """Pass one request on, or refuse it."""
        device = caller(context)
        try:
            check(request, self._node_key(device))
            work = asyncio.get_running_loop().run_in_executor(self._pool, self._pass_on, request)
            status, body = await asyncio.wait_for(work, TIMEOUT_S)
        except Refused as refused:
            _log.warning("device %s: %s", device, refused)
            await context.abort(refused.code, str(refused))
        except (OSError, http.client.HTTPException, TimeoutError) as error:
            _log.info("SuperLink does not answer: %r", error)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "SuperLink does not answer")
        return relay_pb2.RelayResponse(status=status, body=body if status == http.HTTPStatus.OK else b"")

    def _pass_on(self, request: "relay_pb2.RelayRequest") -> tuple[int, bytes]:
        headers = {
            "content-type": "application/protobuf",
            "accept": "application/protobuf",
            PUBLIC_KEY_HEADER: request.public_key,
            TIMESTAMP_HEADER: request.timestamp,
            SIGNATURE_HEADER: request.signature,
        }
        return self._way.post(request.path, headers, request.body)

    def close(self) -> None:
        """Wait for nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def add_relay(servicer: RelayServicer) -> Callable[[grpc.aio.Server], None]:
    """What the door calls to have the service on its port."""

    def add(server: grpc.aio.Server) -> None:
        relay_pb2_grpc.add_RelayServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated code

    return add


def check(request: "relay_pb2.RelayRequest", node_key: bytes | None) -> None:
    """Raises Refused unless this request may pass for the device whose enrolled node key is ``node_key``."""
    route = request.path.removeprefix(FLEET_PREFIX)
    limit = MAX_BODY_BYTES.get(route)
    if limit is None or not request.path.startswith(FLEET_PREFIX):
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, "this route is not one of a node's")
    if len(request.body) > limit:
        raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{route} takes at most {limit} bytes")
    headers = (request.public_key, request.timestamp, request.signature)
    if any(not text.isascii() or not text.isprintable() or len(text) > MAX_HEADER_CHARACTERS for text in headers):
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the proof of the node cannot be read")
    if node_key is None or _decoded(request.public_key) != node_key:
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, "this node key was not enrolled for this device")
    if route == "push-messages":
        _check_sender(request.body)


def _check_sender(body: bytes) -> None:
    """SuperLink checks the node that pushes, not whom the message itself names as its sender."""
    try:
        pushed = PushMessagesRequest.FromString(body)
    except DecodeError:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the pushed messages cannot be read") from None
    if any(message.metadata.src_node_id != pushed.node.node_id for message in pushed.messages_list):
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, "a message names another node as its sender")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
