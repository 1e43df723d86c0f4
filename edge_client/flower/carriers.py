"""How a node's requests travel: straight to SuperLink over HTTPS, or through the fleet door's relay over mutual TLS.

Straight is for a private network or one machine; the door is the way for devices out there, who never see SuperLink itself.
Connections are kept, and a broken one is opened again for the next request. Nothing is retried here: the node decides.
"""

import http.client
import ssl
import time
from collections.abc import Callable, Mapping

import grpc

from edge_client.flower.fleet_api import FleetUnreachable, Post
from fedge.errors import FedgeError
from fedge.flower import PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
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
        request = relay_pb2.RelayRequest(
            path=path,
            body=body,
            public_key=headers[PUBLIC_KEY_HEADER],
            timestamp=headers[TIMESTAMP_HEADER],
            signature=headers[SIGNATURE_HEADER],
        )
        try:
            stub = relay_pb2_grpc.RelayStub(channel())  # type: ignore[no-untyped-call]  # generated code
            answer = stub.Relay(request, timeout=timeout_s)
        except FedgeError as error:  # no certificate to show, for now
            raise FleetUnreachable(str(error)) from error
        except ValueError as error:  # the channel was closed for a newer one
            raise FleetUnreachable("the fleet door's channel is being opened again") from error
        except grpc.RpcError as error:
            code = error.code()
            if code in _REFUSALS:
                return _REFUSALS[code], b""
            raise FleetUnreachable(f"the fleet door does not answer: {code.name}") from error
        return answer.status, answer.body

    return post
