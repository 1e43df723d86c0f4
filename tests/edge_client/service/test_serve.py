"""Connections whose request never arrives as a whole are cut off, and slow answers are not."""

import asyncio
import socket
import time
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from edge_client.service.serve import ApiServer, listen

WHOLE = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
HALVES = {
    "nothing": (b"",),
    "head": (b"GET / HTTP/1.1\r\n",),
    "body": (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc",),
    "second": (WHOLE, b"GET / HTTP/1.1\r\n"),
}
PATIENCE_S = 30.0


async def app(scope, receive, send):
    """Reads the whole body, takes longer than a request may, and answers."""
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server, up = ApiServer(app, request_timeout_s=0.3), Event()
    with listen("127.0.0.1", 0) as listener:
        thread = Thread(target=lambda: server.serve_on(listener, ready=up.set))
        thread.start()
        assert up.wait(PATIENCE_S)
        yield listener.getsockname()[1]
        server.stop()
        thread.join(PATIENCE_S)


@pytest.mark.parametrize("kind", HALVES)
def test_half_a_request_is_cut_off(port: int, kind: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        *whole, half = HALVES[kind]
        for request in whole:
            connection.sendall(request)
            assert connection.recv(4096).endswith(b"ok")
        connection.sendall(half)
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass


def test_a_byte_now_and_then_does_not_help(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        until = time.monotonic() + PATIENCE_S
        with pytest.raises(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nx: " + b"y" * 10_000:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
                assert time.monotonic() < until


def test_a_slow_answer_is_given(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        for _ in range(2):
            connection.sendall(WHOLE)
            assert connection.recv(4096).endswith(b"ok")
