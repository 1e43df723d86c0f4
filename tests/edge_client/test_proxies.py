"""The way through a proxy: chosen by the usual variables, and taken for real by central's client."""

import socket
import threading
from contextlib import contextmanager

import grpc
import pytest

from edge_client.membership.channel import DoorChannel, proxy_options
from edge_client.settings import DeviceHome

NONE = [("grpc.enable_http_proxy", 0)]
VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY")


@pytest.fixture
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def through(proxy: str) -> list[tuple[str, str | int]]:
    return [("grpc.enable_http_proxy", 1), ("grpc.http_proxy", proxy)]


def test_without_variables_there_is_no_proxy(environment):
    assert proxy_options("central.example:443") == NONE


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_either_case_and_all_proxy_count(environment, name):
    environment(name, "http://proxy.example:3128")
    assert proxy_options("central.example:443") == through("http://proxy.example:3128")


def test_a_proxy_without_a_scheme_is_taken(environment):
    environment("https_proxy", "proxy.example:3128")
    assert proxy_options("central.example:443") == through("http://proxy.example:3128")


@pytest.mark.parametrize("no_proxy", ["central.example", ".example", "*"])
def test_no_proxy_is_heeded(environment, no_proxy):
    environment("https_proxy", "http://proxy.example:3128")
    environment("NO_PROXY", no_proxy)
    assert proxy_options("central.example:443") == NONE


@pytest.mark.parametrize("address", ["localhost:8742", "127.0.0.1:8742", "[::1]:8742", "unix:/run/central"])
def test_loopback_never_goes_through_a_proxy(environment, address):
    environment("https_proxy", "http://proxy.example:3128")
    assert proxy_options(address) == NONE


@contextmanager
def connect_proxy():
    """Notes what it is asked to connect to, and hangs up."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(4096).decode().splitlines()[0])
                    connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)


def test_the_way_to_the_door_is_chosen_by_the_same_rule(environment, tmp_path):
    environment("HTTPS_PROXY", "http://proxy.example:3128")
    assert set(through("http://proxy.example:3128")) <= set(DoorChannel(DeviceHome(tmp_path), "door.example:8740")._options)
    assert set(NONE) <= set(DoorChannel(DeviceHome(tmp_path), "localhost:8740")._options)


def test_a_channel_asks_the_proxy_for_the_server(environment):
    with connect_proxy() as (port, asked):
        environment("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        options = proxy_options("central.invalid:8742")
        channel = grpc.secure_channel("central.invalid:8742", grpc.ssl_channel_credentials(), options)
        with channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/x/y")(b"", timeout=30)
        assert asked and asked[0] == "CONNECT central.invalid:8742 HTTP/1.1"
