"""What happens reaches who watches, as JSON and as a stream that goes on where its reader was. A real server."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from fastapi import FastAPI

from aggregator.console import create_app
from aggregator.console.auth.accounts import Accounts, Passwords
from aggregator.console.auth.policy import AccessPolicy, Role
from aggregator.store import Database, RoundRow


@contextmanager
def served(app: FastAPI) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def port(database: Database) -> Iterator[int]:
    with served(create_app(database)) as found:
        yield found


class Reader:
    """A reader of the stream, as a browser's EventSource is one."""

    def __init__(self, port: int, last: str | None = None, query: str = "", token: str | None = None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": last})
        headers |= {} if token is None else {"Authorization": f"Bearer {token}"}
        self.connection.request("GET", f"/api/v1/events/stream{query}", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.headers["content-type"].startswith("text/event-stream")
        assert self.answer.headers["Content-Security-Policy"].startswith("default-src 'none'")

    def next(self, kind: str) -> dict[str, str]:
        """The next event of that kind, with its fields."""
        found: dict[str, str] = {}
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                found[name] = value
            elif found.get("event") == kind:
                return found
            else:
                found = {}

    def close(self) -> None:
        self.connection.close()


def test_a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice(database: Database, port: int) -> None:
    add: Any = database.happenings.add_event
    add("round.started", "round 1 begins", at=1.0, round_number=1)
    first = Reader(port)
    first.next("change")
    number = add("round.finished", "round 1 finished", at=2.0, round_number=1)
    told = first.next("round")
    assert told["id"] == str(number) and json.loads(told["data"])["text"] == "round 1 finished"
    first.close()
    missed = [add("round.started", f"round {n} begins", at=3.0, round_number=n) for n in (2, 3)]
    again = Reader(port, last=told["id"])
    assert [int(again.next("round")["id"]) for _ in missed] == missed
    again.close()


def test_a_page_is_told_to_look_again_when_devices_report(database: Database, port: int) -> None:
    phase = database.happenings.begin_phase(
        round_number=1, attempt=1, purpose="update", phase="train", at=1.0, expected=16, needed=11
    )
    reader = Reader(port, query="?after=0")
    before = reader.next("change")["data"]
    database.happenings.note_phase(phase, reported=12)
    assert reader.next("change")["data"] != before
    reader.close()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/fragments/at-hand")
    assert "12 of 16 reported, at least 11 needed" in connection.getresponse().read().decode()


def test_the_round_at_hand_is_running_until_it_is_recorded(database: Database, port: int) -> None:
    def at_hand() -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/api/v1/rounds-at-hand")
        return json.loads(connection.getresponse().read())

    assert at_hand() is None
    database.happenings.begin_phase(round_number=4, attempt=1, purpose="update", phase="train", at=1.0, expected=4, needed=3)
    assert at_hand()["running"] is True and at_hand()["phases"][0]["expected"] == 4
    database.save_round(RoundRow(round=4, state="finished", started=0.0, finished=9.0))
    assert at_hand()["running"] is False and at_hand()["state"] == "finished"


def test_a_stream_ends_with_its_readers_login(database: Database) -> None:
    accounts = Accounts(database, passwords=Passwords(PasswordHasher.from_parameters(CHEAPEST)))
    accounts.add("vera", Role.VIEWER, "correct horse battery")
    token = accounts.new_api_token("vera")
    with served(create_app(database, policy=AccessPolicy(is_open=False))) as port:
        reader = Reader(port, token=token)
        reader.next("change")
        accounts.disable("vera")
        assert b"" in (reader.answer.readline() for _ in range(8))  # the end, which an account that stays never reaches
        reader.close()


def test_a_reader_beyond_the_most_is_asked_to_come_later(database: Database) -> None:
    app = create_app(database)
    readers = app.state.console.readers
    while readers.acquire(blocking=False):
        pass
    with served(app) as port:
        turned_away = Reader(port)
        assert turned_away.answer.read() == b"retry: 30000\n\n"
        readers.release()
        first = Reader(port)
        first.next("change")
        assert Reader(port).answer.read() == b"retry: 30000\n\n"
        first.close()


def test_a_number_that_no_event_can_have_is_refused_or_passed_over(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", f"/api/v1/events?after={2**63}")
    assert connection.getresponse().status == 422
    reader = Reader(port, last="9" * 30)
    assert reader.next("change")
    reader.close()
