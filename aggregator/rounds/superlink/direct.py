"""A short way through SuperLink for the few requests that a round consists of.

Flower's server takes each request through a dozen layers of its web framework, 4 to 7 ms of processor time, and a round of
16 devices is some thousands of requests. These go straight to the same handlers of Flower, after the same checks of Flower's
(node signatures, task tokens, error answers); only the layers between are left out. Every other request takes Flower's way.

The SuperLink process's own entry: Flower's command with a guard in front of it.

Flower's Control API has no login, and whoever reaches it may register nodes and start runs. Here every route but those for
nodes wants a secret that only the rounds process can read, so that neither a device nor another user of this machine gets
in. TLS below 1.3 is refused. What nodes say is checked by Flower itself, against the registered keys.
"""

import hmac
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
import uvicorn.config
from fastapi import Request, Response
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2, runtime_pb2
from flwr.supercore.constant import TASK_TOKEN_HEADER
from flwr.supercore.dependencies.task import authenticate_task
from flwr.supercore.error import http_error_translator
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink import extensions
from flwr.superlink.cli.flower_superlink import flower_superlink
from flwr.superlink.dependencies.linkstate import get_linkstate
from flwr.superlink.routers.fleet import node_auth
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from google.protobuf.message import Message
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from aggregator.rounds.superlink.process import SECRET_FILE
from fedge.flower import FLEET_PREFIX, check_flower

GUARD_HEADER = "fedge-superlink"


class Guard:
    """Lets requests through that are for nodes' routes or carry the secret."""

    def __init__(self, app: ASGIApp, *, secret: str) -> None:
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 403 to anyone else."""
        if scope["type"] == "http" and not scope["path"].startswith(FLEET_PREFIX):
            given = dict(scope["headers"]).get(GUARD_HEADER.encode(), b"")
            if not hmac.compare_digest(given, self._secret):
                await PlainTextResponse("only the rounds process may ask for this", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def main() -> None:
    """Run the SuperLink with the command's own arguments."""
    check_flower(version("flwr"))
    secret = Path(os.environ[SECRET_FILE]).read_text(encoding="ascii").strip()
    # Flower asks its extensions for middleware; there is no public place to give one.
    setattr(extensions, "get_middleware", lambda: (Middleware(Guard, secret=secret), Middleware(Direct)))  # noqa: B010
    setattr(uvicorn.config, "create_ssl_context", _only_tls13(uvicorn.config.create_ssl_context))  # noqa: B010
    remember_proofs()
    setattr(uvicorn.Server, "startup", _announced(uvicorn.Server.startup))  # noqa: B010
    # Uvicorn stops on SIGTERM and raises the signal again when it has: by then, as before it serves, that is a clean end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    flower_superlink()


def _announced(startup: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Says one line once the port is open."""

    async def announced(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        await startup(server, sockets)
        if server.started:
            print(f"superlink is ready: {server.config.host}:{server.config.port}, on loopback only", flush=True)

    return announced


def _only_tls13(create: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    def context(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        made = create(*args, **kwargs)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        return made

    return context


RUNTIME_PREFIX = "/v1/runtime/"
MAX_BODY_BYTES = 64 * 1024 * 1024
PROOFS = 4096
"""Signed times of nodes that are remembered as verified."""


@dataclass(frozen=True, slots=True)
class _Route:
    """A request's type, and the handler of Flower's that answers it."""

    kind: type[Message]
    answer: Callable[..., Message]


def _with_store(handler: Callable[..., Message]) -> Callable[..., Message]:
    return lambda request, state: handler(request=request, state=state, store=state.object_store)


_FLEET = {
    "pull-messages": _Route(fleet_pb2.PullMessagesRequest, _with_store(fleet_handlers.pull_messages)),
    "push-messages": _Route(fleet_pb2.PushMessagesRequest, fleet_handlers.push_messages),
    "pull-object": _Route(message_pb2.PullObjectRequest, fleet_handlers.pull_object),
    "push-object": _Route(message_pb2.PushObjectRequest, fleet_handlers.push_object),
    "confirm-message-received": _Route(
        message_pb2.ConfirmMessageReceivedRequest, _with_store(fleet_handlers.confirm_message_received)
    ),
    "send-node-heartbeat": _Route(heartbeat_pb2.SendNodeHeartbeatRequest, fleet_handlers.send_node_heartbeat),
}
_RUNTIME = {
    "get-nodes": _Route(runtime_pb2.GetNodesRequest, runtime_handlers.get_nodes),
    "push-messages": _Route(runtime_pb2.PushAppMessagesRequest, runtime_handlers.push_messages),
    "pull-messages": _Route(runtime_pb2.PullAppMessagesRequest, runtime_handlers.pull_messages),
    "pull-object": _Route(message_pb2.PullObjectRequest, runtime_handlers.pull_object),
    "push-object": _Route(message_pb2.PushObjectRequest, runtime_handlers.push_object),
    "confirm-message-received": _Route(message_pb2.ConfirmMessageReceivedRequest, runtime_handlers.confirm_message_received),
}


class Direct:
    """Answers the requests of a round itself and passes all others on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        answer = _answerer(scope)
        if answer is None:
            await self._app(scope, receive, send)
            return
        # Flower's own translation of what a handler raises; it logs, and tells the caller no more than it may know.
        response = await http_error_translator(Request(scope, receive), answer)
        await response(scope, receive, send)


def remember_proofs() -> None:
    """Verify each signed time once, since a node sends it with many requests; its age and the node are checked always."""

    @lru_cache(maxsize=PROOFS)
    def verified(public_key: bytes, message: bytes, signature: bytes) -> bool:
        return verify_signature(bytes_to_public_key(public_key), message, signature)

    def unread(public_key: bytes) -> bytes:
        return public_key

    setattr(node_auth, "bytes_to_public_key", unread)  # noqa: B010
    setattr(node_auth, "verify_signature", verified)  # noqa: B010


def _answerer(scope: Scope) -> Callable[[Request], Awaitable[Response]] | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path: str = scope["path"]
    if path.startswith(FLEET_PREFIX):
        return _answer_node(_FLEET.get(path.removeprefix(FLEET_PREFIX)))
    if path.startswith(RUNTIME_PREFIX):
        return _answer_run(_RUNTIME.get(path.removeprefix(RUNTIME_PREFIX)))
    return None


def _answer_node(route: _Route | None) -> Callable[[Request], Awaitable[Response]] | None:
    if route is None:
        return None

    async def answer(request: Request) -> Response:
        request.state.protobuf_request = asked = await _read(request, route.kind)
        node_auth.authenticate_node(request)
        return _response(route.answer(request=asked, state=get_linkstate(request)))

    return answer


def _answer_run(route: _Route | None) -> Callable[[Request], Awaitable[Response]] | None:
    if route is None:
        return None

    async def answer(request: Request) -> Response:
        asked = await _read(request, route.kind)
        state = get_linkstate(request)
        task = authenticate_task(request, request.headers.get(TASK_TOKEN_HEADER), state)
        return _response(route.answer(asked, state, task))

    return answer


async def _read(request: Request, kind: type[Message]) -> Any:
    ProtobufTranslationMiddleware._check_request_media_type(request)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"a request of more than {MAX_BODY_BYTES} bytes")
    return ProtobufTranslationMiddleware._parse_request(bytes(body), kind)


def _response(message: Message) -> Response:
    return Response(message.SerializeToString(), media_type=PROTOBUF_MEDIA_TYPE)


if __name__ == "__main__":
    main()
