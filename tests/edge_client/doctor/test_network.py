"""Reaching real servers on loopback, and every way in which that ends."""

import ssl
import threading

import pytest

from edge_client.doctor.network import proxies, reach

TIMEOUT_S = 20.0


def attempt(fleet, port, *, timeout_s=TIMEOUT_S, **settings):
    made = fleet.settings(port, **settings)
    return reach("door", made.fleet, fleet.home, made, timeout_s=timeout_s)


def test_a_server_of_the_fleet_is_reached_and_says_how_long_its_certificate_holds(fleet, now):
    reached = attempt(fleet, fleet.grpc_server())
    assert reached.finding.outcome == "ok", reached.finding
    assert reached.validities[0].begins < now < reached.validities[0].ends


def test_a_server_name_takes_the_place_of_the_address(fleet):
    port = fleet.grpc_server(name="fleet.example")
    assert attempt(fleet, port, server_name="fleet.example").finding.outcome == "ok"
    finding = attempt(fleet, port).finding
    assert (finding.outcome, "another name than 127.0.0.1" in finding.says) == ("fail", True)
    assert "server_name" in finding.remedy


def test_nothing_that_listens(fleet):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    finding = attempt(fleet, port).finding
    assert (finding.outcome, "nothing listens" in finding.says) == ("fail", True)


def test_a_server_that_never_answers(fleet):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes connections, accepts none
        finding = attempt(fleet, listener.getsockname()[1], timeout_s=0.3).finding
    assert (finding.outcome, "no answer within" in finding.says) == ("fail", True)


def test_a_name_that_does_not_exist(fleet):
    made = fleet.settings(1, host="nowhere.invalid")
    finding = reach("door", made.fleet, fleet.home, made).finding
    assert (finding.outcome, "cannot be resolved" in finding.says) == ("fail", True)


@pytest.mark.parametrize("address", ["host", "host:", ":1", "host:x"])
def test_an_address_that_is_none(fleet, address):
    finding = reach("door", address, fleet.home, fleet.settings()).finding
    assert (finding.outcome, "no host:port" in finding.says) == ("fail", True)


def test_a_server_of_another_authority_is_not_trusted(fleet, stranger):
    reached = attempt(fleet, fleet.grpc_server(by=stranger))
    assert (reached.finding.outcome, "authority" in reached.finding.says) == ("fail", True)
    assert reached.validities == []


def test_a_device_of_another_authority_is_told_that_the_server_refuses_it(fleet, stranger, now, hour):
    fleet.give(by=stranger, holds=(now - 1e9, now + 1e9))
    finding = attempt(fleet, fleet.grpc_server()).finding
    assert finding.outcome == "fail", finding
    assert "revoked" in finding.remedy


@pytest.mark.parametrize(("holds", "said"), [((1e9, 1.1e9), "expired"), ((4e9, 4.1e9), "not valid yet")])
def test_a_server_certificate_out_of_its_time_gives_the_clock_something_to_go_by(fleet, holds, said):
    reached = attempt(fleet, fleet.grpc_server(holds=holds))
    assert (reached.finding.outcome, said in reached.finding.says) == ("fail", True)
    assert "timedatectl" in reached.finding.remedy
    assert [(validity.begins, validity.ends) for validity in reached.validities] == [holds]


def test_something_that_speaks_no_tls(fleet):
    port = fleet.tcp_server(
        lambda connection: (connection.recv(10), connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))[0]
    )
    finding = attempt(fleet, port).finding
    assert (finding.outcome, "TLS failed" in finding.says) == ("fail", True)


def test_a_server_of_an_older_tls_is_refused(fleet):
    context = fleet.tls_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    finding = attempt(fleet, fleet.tcp_server(lambda connection: context.wrap_socket(connection, server_side=True))).finding
    assert finding.outcome == "fail"
    assert "TLS 1.3 only" in finding.remedy


def test_a_server_that_hangs_up_after_the_handshake(fleet):
    context = fleet.tls_context()

    def serve(connection):
        context.wrap_socket(connection, server_side=True).unwrap()

    finding = attempt(fleet, fleet.tcp_server(serve)).finding
    assert (finding.outcome, "hung up" in finding.says) == ("fail", True)


def test_a_server_that_stays_silent_after_the_handshake(fleet):
    context, done = fleet.tls_context(), threading.Event()

    def serve(connection):
        with context.wrap_socket(connection, server_side=True):
            done.wait(60)

    finding = attempt(fleet, fleet.tcp_server(serve), timeout_s=1.0).finding
    done.set()
    assert (finding.outcome, "says nothing" in finding.says) == ("warn", True)


def test_tls_files_that_are_missing(fleet):
    fleet.home.tls_key.unlink()
    finding = attempt(fleet, 1).finding
    assert (finding.outcome, "TLS files" in finding.says) == ("fail", True)


# Proxies.


def test_the_variables_are_shown_without_passwords():
    finding = proxies({"HTTPS_PROXY": "http://user:secret@proxy:3128", "no_proxy": "localhost", "PATH": "/bin"})
    assert finding.says == "HTTPS_PROXY=http://***@proxy:3128, no_proxy=localhost"
    assert proxies({}).says == "none set"


def tunnel(fleet, there, seen, *, status="200 OK"):
    """A proxy that answers CONNECT and hands bytes on to ``there``."""
    import socket

    def serve(connection):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        seen.append(head.split(b"\r\n")[0])
        connection.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())
        if not status.startswith("200"):
            return
        with socket.create_connection(("127.0.0.1", there)) as onward:
            back = threading.Thread(target=pump, args=(onward, connection), daemon=True)
            back.start()
            pump(connection, onward)
            back.join(30)

    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    return fleet.tcp_server(serve)


def test_a_proxy_is_used_for_other_hosts_and_named(fleet, monkeypatch):
    seen = []
    proxy = tunnel(fleet, fleet.grpc_server(name="fleet.example"), seen)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy}")
    made = fleet.settings(8741, host="fleet.example")
    finding = reach("door", made.fleet, fleet.home, made, timeout_s=TIMEOUT_S).finding
    assert finding.outcome == "ok", finding
    assert "through the proxy" in finding.says
    assert seen == [b"CONNECT fleet.example:8741 HTTP/1.1"]


def test_a_proxy_that_refuses_is_quoted_and_no_proxy_goes_past_it(fleet, monkeypatch):
    seen = []
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{tunnel(fleet, 1, seen, status='403 Forbidden')}")
    made = fleet.settings(8741, host="nowhere.invalid")
    assert "403 Forbidden" in reach("door", made.fleet, fleet.home, made, timeout_s=TIMEOUT_S).finding.says
    monkeypatch.setenv("no_proxy", ".invalid")
    assert "cannot be resolved" in reach("door", made.fleet, fleet.home, made, timeout_s=TIMEOUT_S).finding.says
    assert attempt(fleet, fleet.grpc_server()).finding.outcome == "ok"  # loopback takes no proxy
    assert len(seen) == 1
