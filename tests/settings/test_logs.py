"""Log lines: for people or for machines, with what is bound around them, and never with a secret."""

import json
import logging
import sys
import threading

import pytest

from fedge import logs

SECRETS = {
    "fedge1://10.0.0.5:8744/authority/" + "K" * 44 + "/" + "T" * 43: "T" * 43,
    "postgresql://fedge:hunter2@db/fedge cannot be reached": "hunter2",
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----": "MHcCAQ",
    "-----BEGIN PRIVATE KEY-----\nMHcCAQ": "MHcCAQ",
    "sent Authorization: Bearer abc.def": "abc.def",
}


def record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    return logging.LogRecord(
        "aggregator.rounds.coordinator", logging.INFO, "f", 1, message, arguments, sys.exc_info() if error else None
    )


def test_a_json_line_says_when_who_and_what_and_all_that_is_bound() -> None:
    form = logs.JsonLines("rounds")
    with logs.context(round=7):
        with logs.context(attempt=2, purpose="update"):
            logs.bind(session="ab12")
            inside = json.loads(form.format(record("round %d\nbegins", 7)))
        after = json.loads(form.format(record("on")))
    outside = json.loads(form.format(record("on")))
    assert inside.pop("time").endswith("+00:00")
    assert inside == {
        "level": "INFO", "logger": "aggregator.rounds.coordinator", "part": "rounds", "message": "round 7\nbegins",
        "round": 7, "attempt": 2, "purpose": "update", "session": "ab12",
    }  # fmt: skip
    assert set(after) - set(outside) == {"round"}
    assert "\n" not in form.format(record("a\nb"))


def test_what_is_bound_stays_in_its_thread() -> None:
    seen: list[str] = []
    with logs.context(round=7):
        other = threading.Thread(target=lambda: seen.append(logs.JsonLines("door").format(record("on"))))
        other.start()
        other.join()
    assert "round" not in json.loads(seen[0])


def test_without_a_block_around_it_nothing_is_bound_for_good() -> None:
    logs.bind(round=7)
    assert "round" not in json.loads(logs.JsonLines("device").format(record("on")))


def test_only_known_fields_can_be_bound() -> None:
    with pytest.raises(ValueError, match=r"\['query'\] cannot be bound"), logs.context(query="turn off the lights"):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("form", [logs.TextLines(), logs.JsonLines("door")])
@pytest.mark.parametrize(("said", "secret"), SECRETS.items())
def test_no_secret_is_written_in_a_message_or_an_exception(form: logging.Formatter, said: str, secret: str) -> None:
    try:
        raise ValueError(said)
    except ValueError:
        line = form.format(record("failed: %s", said, error=True))
    assert secret not in line and "failed" in line


def test_an_address_without_a_password_stays_readable() -> None:
    assert logs.discreet("http://127.0.0.1:8350/ and sqlite:////a/b@c") == "http://127.0.0.1:8350/ and sqlite:////a/b@c"
