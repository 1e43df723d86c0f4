"""How a node's requests travel: straight to SuperLink over HTTPS, or through the fleet door's relay over mutual TLS.

Straight is for a private network or one machine; the door is the way for devices out there, who never see SuperLink itself.
Connections are kept, and a broken one is opened again for the next request. Nothing is retried here: the node decides.
"""

import http.client
import ssl
import time
from collections.abc import Callable, Iterator, Mapping

import grpc

from edge_client.flower.fleet_api import MAX_MESSAGE_BYTES, FleetUnreachable, Post
from edge_client.membership.channel import is_marked_for_later
from fedge.errors import FedgeError
from fedge.flower import FLEET_PREFIX, PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from fedge.wire import RELAY_CHUNK_BYTES
from protos.fedge.fleet.v1 import relay_pb2, relay_pb2_grpc

TIMEOUT_S = 60.0
IDLE_S = 3.0
"""SuperLink hangs up on a connection that was idle for five seconds."""
_PROTOBUF = {"content-type": "application/protobuf", "accept": "application/protobuf"}
# What the door says of a device rather than of the way to it.
_REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 413,
}


def straight(address: str, authority: bytes, *, timeout_s: float = TIMEOUT_S) -> Post:
    """To the SuperLink at ``host:port``, whose certificate ``authority`` (PEM) vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority.decode("ascii"))
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPSConnection(host.strip("[]"), int(port), timeout=timeout_s, context=context)

    used = time.monotonic()

    def post(path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        nonlocal used
        if time.monotonic() - used > IDLE_S:
            connection.close()  # the next request opens it again
        try:
            connection.request("POST", path, body=body, headers={**_PROTOBUF, **headers})
            response = connection.getresponse()
            answer = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise FleetUnreachable(f"SuperLink at {address} does not answer: {error!r}") from error
        used = time.monotonic()
        return answer

    return post


def through_door(channel: Callable[[], grpc.Channel], *, timeout_s: float = TIMEOUT_S) -> Post:
    """Through the relay of the fleet door; ``channel`` gives the device's mutual-TLS channel of the moment."""

    def post(path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        proof = {
            "path": path,
            "public_key": headers[PUBLIC_KEY_HEADER],
            "timestamp": headers[TIMESTAMP_HEADER],
            "signature": headers[SIGNATURE_HEADER],
        }
        try:
            stub = relay_pb2_grpc.RelayStub(channel())  # type: ignore[no-untyped-call]  # generated code
            if len(body) > RELAY_CHUNK_BYTES:
                pushed = stub.Push(_pieces(proof, body), timeout=timeout_s)
                return pushed.status, pushed.body
            answer = stub.Relay(relay_pb2.RelayRequest(body=body, **proof), timeout=timeout_s)
            if answer.status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE and path == FLEET_PREFIX + "pull-object":
                return _gathered(stub.Pull(relay_pb2.PullRequest(body=body, **proof), timeout=timeout_s))
        except FedgeError as error:  # no certificate to show, for now
            raise FleetUnreachable(str(error)) from error
        except ValueError as error:  # the channel was closed for a newer one
            raise FleetUnreachable("the fleet door's channel is being opened again") from error
        except grpc.RpcError as error:
            code = error.code()
            if code in _REFUSALS and not is_marked_for_later(error):
                return _REFUSALS[code], b""
            raise FleetUnreachable(f"the fleet door does not answer: {code.name}") from error
        return answer.status, answer.body

    return post


def _pieces(proof: Mapping[str, str], body: bytes) -> Iterator[relay_pb2.PushRequest]:
    yield relay_pb2.PushRequest(
        path=proof["path"],
        body_bytes=len(body),
        public_key=proof["public_key"],
        timestamp=proof["timestamp"],
        signature=proof["signature"],
    )
    for start in range(0, len(body), RELAY_CHUNK_BYTES):
        yield relay_pb2.PushRequest(data=body[start : start + RELAY_CHUNK_BYTES])


def _gathered(pieces: Iterator[relay_pb2.PullResponse]) -> tuple[int, bytes]:
    """Return status and body of an answer in pieces: 413 for one that is too large."""
    status, body = 0, bytearray()
    for piece in pieces:
        status = piece.status or status
        body += piece.data
        if len(body) > MAX_MESSAGE_BYTES:
            return http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b""
    return status, bytes(body)
