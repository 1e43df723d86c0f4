"""The relay of the fleet door: a device's Flower node reaches SuperLink through it, and nothing else of SuperLink.

A request passes when its route is one of a node's, its size fits that route, and its node key is the one that was enrolled
for the device that the client certificate names: a device speaks as its own node only. SuperLink checks the signature. The
relay keeps nothing and retries nothing. Large bodies pass in pieces: what one call holds in memory does not depend on its
size. Devices wait for SuperLink in turn, each with its own share of what may be on its way.
"""

import asyncio
import binascii
import http.client
import logging
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
from flwr.proto.fleet_pb2 import PushMessagesRequest
from google.protobuf.message import DecodeError

from aggregator.fleet.authentication import Context, abort_for_later, caller
from aggregator.fleet.limits import FairSlots, LimitExceededError
from aggregator.rounds.superlink.runtime_client import AnswerTooLargeError, KeptConnections
from aggregator.rounds.superlink.streaming import StreamedRequest
from aggregator.settings import LimitsSettings
from fedge.flower import FLEET_PREFIX, PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from fedge.wire import RELAY_CHUNK_BYTES
from protos.fedge.fleet.v1 import relay_pb2, relay_pb2_grpc

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_SMALL = RELAY_CHUNK_BYTES
MAX_BODY_BYTES = {
    "activate-node": _SMALL,
    "deactivate-node": _SMALL,
    "send-node-heartbeat": _SMALL,
    "pull-messages": _SMALL,
    "push-messages": _SMALL,
    "get-run": _SMALL,
    "get-fab": _SMALL,
    "pull-object": _SMALL,
    "push-object": _SMALL,
    "confirm-message-received": _SMALL,
}
"""The routes that pass in one message, with the most that a request may weigh. Registering a node is not among them."""

PUSHED, PULLED = "push-object", "pull-object"
"""The routes whose request or answer may be large."""
MAX_PUSHED_BYTES = 15 * 1024 * 1024
MAX_HEADER_CHARACTERS = 1024
TIMEOUT_S = 45.0
PIECE_TIMEOUT_S = 10.0
"""How long the next piece of a body may take to come."""
WORKERS = 32


@dataclass(frozen=True, slots=True)
class Destination:
    """Where SuperLink listens on loopback, and the PEM file that its certificate is checked against."""

    address: str
    certificate: Path


Proven = relay_pb2.RelayRequest | relay_pb2.PushRequest | relay_pb2.PullRequest
"""A request with a node's proof."""


class Refused(Exception):  # noqa: N818 - an answer
    """A request that does not pass, with what the caller is told."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class RelayBounds:
    """How many large bodies, and how many bytes of them, are on their way at once: of one device, and of all."""

    uploads: int
    total_bytes: int
    bytes_per_device: int

    @classmethod
    def from_settings(cls, limits: LimitsSettings) -> "RelayBounds":
        """Return the bounds that the server's settings give."""
        return cls(limits.uploads, limits.upload_mib << 20, limits.upload_mib_per_device << 20)


class RelayServicer(relay_pb2_grpc.RelayServicer):
    """The service. ``node_key`` gives the key (PEM) that was enrolled for a device, or None.

    It stands behind `aggregator.fleet.authentication.Admission`, which turns revoked devices away on each call and bounds
    each device's calls.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        node_key: Callable[[str], bytes | None],
        bounds: RelayBounds | None = None,
    ) -> None:
        most = bounds or RelayBounds.from_settings(LimitsSettings())
        self._node_key = node_key
        self._address = destination.address
        self._certificate = destination.certificate
        self._way = KeptConnections(destination.address, self._authority, timeout_s=TIMEOUT_S)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="relay")
        self._turns = FairSlots(slots=WORKERS)
        # In the threads of their own pool only while SuperLink takes a piece, never while a device is waited for.
        self._streams = ThreadPoolExecutor(WORKERS, thread_name_prefix="relay-stream")
        self._uploads = FairSlots(
            slots=most.uploads,
            total_bytes=most.total_bytes,
            bytes_per_device=most.bytes_per_device,
            setting="upload_mib_per_device",
        )
        self._downloads = FairSlots(slots=most.uploads)

    async def Relay(  # noqa: N802 - the name in the proto file
        self, request: "relay_pb2.RelayRequest", context: Context
    ) -> "relay_pb2.RelayResponse":
        """Pass one request on, or refuse it."""
        device = caller(context)
        async with _answered(context, device):
            check(request, self._node_key(device), size_bytes=len(request.body), limits=MAX_BODY_BYTES)
            if request.path == FLEET_PREFIX + "push-messages":
                check_sender(request.body)
            async with self._turns.hold(device):
                status, body = await self._run(self._pool, lambda: self._pass_on(request))
        return relay_pb2.RelayResponse(status=status, body=body if status == http.HTTPStatus.OK else b"")

    async def Push(  # noqa: N802 - the name in the proto file
        self, pieces: AsyncIterator["relay_pb2.PushRequest"], context: Context
    ) -> "relay_pb2.PushResponse":
        """Pass one request with a large body on, piece by piece, or refuse it."""
        device = caller(context)
        async with _answered(context, device):
            head = await _next(pieces)
            check(head, self._node_key(device), size_bytes=head.body_bytes, limits={PUSHED: MAX_PUSHED_BYTES})
            async with self._uploads.hold(device, head.body_bytes), self._streamed() as request:
                await self._run(self._streams, lambda: request.begin(head.path, _headers(head), head.body_bytes))
                await self._send(request, pieces, head.body_bytes)
                status = await self._run(self._streams, request.status)
                body = await self._run(self._streams, lambda: request.read(RELAY_CHUNK_BYTES))
        return relay_pb2.PushResponse(status=status, body=body if status == http.HTTPStatus.OK else b"")

    async def Pull(  # noqa: N802 - the name in the proto file
        self, asked: "relay_pb2.PullRequest", context: Context
    ) -> AsyncIterator["relay_pb2.PullResponse"]:
        """Pass one request on and its large answer back, piece by piece, or refuse it."""
        device = caller(context)
        async with _answered(context, device):
            check(asked, self._node_key(device), size_bytes=len(asked.body), limits={PULLED: _SMALL})
            async with self._downloads.hold(device), self._streamed() as request:
                await self._run(self._streams, lambda: request.begin(asked.path, _headers(asked), len(asked.body)))
                await self._run(self._streams, lambda: request.send(asked.body))
                status = await self._run(self._streams, request.status)
                yield relay_pb2.PullResponse(status=status)
                if status == http.HTTPStatus.OK:
                    while data := await self._run(self._streams, lambda: request.read(RELAY_CHUNK_BYTES)):
                        yield relay_pb2.PullResponse(data=data)

    async def _send(
        self, request: StreamedRequest, pieces: AsyncIterator["relay_pb2.PushRequest"], size_bytes: int
    ) -> None:
        left = size_bytes
        while left > 0:
            data = (await _next(pieces)).data
            if not 0 < len(data) <= min(left, RELAY_CHUNK_BYTES):
                raise Refused(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"a piece of {len(data)} bytes: {left} are still to come, each piece has 1 to {RELAY_CHUNK_BYTES}",
                )
            left -= len(data)
            await self._run(self._streams, lambda data=data: request.send(data))  # type: ignore[misc]

    @asynccontextmanager
    async def _streamed(self) -> AsyncIterator[StreamedRequest]:
        request = StreamedRequest(self._address, self._authority, timeout_s=TIMEOUT_S)
        try:
            yield request
        finally:
            request.close()

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def _pass_on(self, request: "relay_pb2.RelayRequest") -> tuple[int, bytes]:
        try:
            return self._way.post(request.path, _headers(request), request.body, max_bytes=RELAY_CHUNK_BYTES)
        except AnswerTooLargeError:
            return http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b""

    def _authority(self) -> str:
        return self._certificate.read_text(encoding="ascii")

    def close(self) -> None:
        """Wait for nothing more."""
        for pool in (self._pool, self._streams):
            pool.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def _answered(context: Context, device: str) -> AsyncIterator[None]:
    """Run one call of the relay within its time; whatever goes wrong ends in the status that the device is told."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield
    except Refused as refused:
        _log.warning("device %s: %s", device, refused)
        await context.abort(refused.code, str(refused))
    except LimitExceededError as error:
        _log.debug("%s", error)  # a hostile device could fill the disk with more
        await abort_for_later(context, error)
    except (OSError, http.client.HTTPException, TimeoutError) as error:
        _log.info("SuperLink does not answer: %r", error)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "SuperLink does not answer")


async def _next(pieces: AsyncIterator["relay_pb2.PushRequest"]) -> "relay_pb2.PushRequest":
    """Return the next piece. Raises Refused where none comes in time."""
    try:
        async with asyncio.timeout(PIECE_TIMEOUT_S):
            return await anext(pieces)
    except StopAsyncIteration:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the body ends before its size") from None
    except TimeoutError:
        raise Refused(grpc.StatusCode.DEADLINE_EXCEEDED, f"no piece of the body came in {PIECE_TIMEOUT_S:g} s") from None


def _headers(request: "Proven") -> dict[str, str]:
    return {
        "content-type": "application/protobuf",
        "accept": "application/protobuf",
        PUBLIC_KEY_HEADER: request.public_key,
        TIMESTAMP_HEADER: request.timestamp,
        SIGNATURE_HEADER: request.signature,
    }


def add_relay(servicer: RelayServicer) -> Callable[[grpc.aio.Server], None]:
    """What the door calls to have the service on its port."""

    def add(server: grpc.aio.Server) -> None:
        relay_pb2_grpc.add_RelayServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated code

    return add


def check(request: "Proven", node_key: bytes | None, *, size_bytes: int, limits: Mapping[str, int]) -> None:
    """Check that a request with a body of ``size_bytes`` may pass for the device whose enrolled node key is ``node_key``.

    ``limits``: the routes that pass, each with the most that its body may weigh. Raises Refused.
    """
    route = request.path.removeprefix(FLEET_PREFIX)
    limit = limits.get(route)
    if limit is None or not request.path.startswith(FLEET_PREFIX):
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, "this route is not one of a node's")
    if size_bytes > limit:
        raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{route} takes at most {limit} bytes")
    headers = (request.public_key, request.timestamp, request.signature)
    if any(not text.isascii() or not text.isprintable() or len(text) > MAX_HEADER_CHARACTERS for text in headers):
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the proof of the node cannot be read")
    if node_key is None or _decoded(request.public_key) != node_key:
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, "this node key was not enrolled for this device")

def check_sender(body: bytes) -> None:
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
