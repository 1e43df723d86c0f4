"""A real HTTP server on loopback that plays an OpenAI-compatible endpoint, and an upstream that asks it."""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

import pytest

from aggregator.central.upstream.budget import Budget
from aggregator.central.upstream.client import ChatClient, Endpoint
from aggregator.central.upstream.prompt import Prompt
from aggregator.central.upstream.upstream import Upstream, When
from fedge.costs import ModelPrice, PriceBook

LABELS = tuple(f"label-{i}" for i in range(64))
KEY = "sk-a-key-that-nobody-may-see"
ALWAYS = When("always", 0.0)
PRICE = ModelPrice(1.0, 10.0, "test", "2026-11-26")
BOOK = PriceBook.load_default().with_price("test", PRICE, version="book-2")


def completion(content: str | None, *, usage: Any = (100, 5), finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion as OpenAI's API has it."""
    said: dict[str, Any] = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish, **more}],
    }
    if isinstance(usage, tuple):
        said["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    elif usage is not None:
        said["usage"] = usage
    return said


@dataclass
class Endpointed:
    """The server: what it was asked, and what it says next. ``say`` gets the handler and the request's JSON."""

    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    script: list[Callable[[Any, dict[str, Any]], None]] = field(default_factory=list)
    otherwise: Callable[[Any, dict[str, Any]], None] | None = None
    closing: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    def answer(self, handler: Any, asked: dict[str, Any]) -> None:
        with self.lock:
            say = self.script.pop(0) if self.script else self.otherwise or says(completion('{"label": "label-7"}'))
        say(handler, asked)


def says(body: Any, *, status: int = 200, kind: str = "application/json", **headers: str) -> Callable[[Any, Any], None]:
    """An answer with this body: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    def say(handler: Any, asked: Any) -> None:
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(raw)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(raw)

    return say


def _serving(endpoint: Endpointed) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with endpoint.lock:
                endpoint.asked.append(body)
                endpoint.headers.append({name.lower(): value for name, value in self.headers.items()})
            try:
                endpoint.answer(self, body)
            except OSError:  # the other side has had enough
                self.close_connection = True

        def log_message(self, format: str, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], OSError):  # whoever asked has hung up, as it should
                super().handle_error(request, client_address)

    return Server(("127.0.0.1", 0), Handler)


@pytest.fixture
def make_endpoint() -> Iterator[Callable[[], Endpointed]]:
    with ExitStack() as stack:

        def make() -> Endpointed:
            endpoint = Endpointed()
            server = stack.enter_context(_serving(endpoint))
            endpoint.port = server.server_address[1]
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            stack.callback(endpoint.closing.set)
            return endpoint

        yield make


@pytest.fixture
def endpoint(make_endpoint: Callable[[], Endpointed]) -> Endpointed:
    return make_endpoint()


@pytest.fixture
def make_upstream(endpoint: Endpointed) -> Iterator[Callable[..., Upstream]]:
    with ExitStack() as stack:

        def make(
            *,
            when: When = ALWAYS,
            timeout_s: float = 20.0,
            max_concurrent: int = 8,
            max_usd_per_day: float = 0.0,
            clock: Callable[[], float] = time.time,
            **how: Any,
        ) -> Upstream:
            upstream = Upstream(
                lambda: ChatClient(
                    Endpoint(endpoint.url, KEY, is_plain=True),
                    timeout_s=timeout_s,
                    max_concurrent=max_concurrent,
                    rng=random.Random(1),
                ),
                Prompt.of("test-model", LABELS, topics={}, oos_label=None),
                when=when,
                book=BOOK,
                price_name="test",
                budget=Budget(PRICE, max_usd_per_day=max_usd_per_day, clock=clock),
                timeout_s=timeout_s,
                max_concurrent=max_concurrent,
                **how,
            )
            stack.callback(upstream.close)
            return upstream

        yield make
