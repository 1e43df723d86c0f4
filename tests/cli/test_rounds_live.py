"""`fedge rounds watch` and the commands that act on rounds, over a real database that is written meanwhile."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aggregator.rounds.interfaces import Place
from aggregator.rounds.progress import StoredProgress
from aggregator.store import Database, RoundRow
from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "LINES": "50", "TERM": "xterm"}
PATIENCE_S = 60.0
PLACE = Place(3, 1, "update")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A server that is set up; something listens where its SuperLink would."""
    folder = tmp_path / "server"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as superlink:
        port = superlink.getsockname()[1]
        (folder / "server.toml").write_text(f"superlink_port = {port}\n")
        yield tmp_path


@pytest.fixture
def database(home: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{home / 'server' / 'aggregator.sqlite'}") as opened:
        yield opened


# A shell in the background starts its commands deaf to Ctrl-C, and a test may run in one.
HEARS_CTRL_C = ("env", "--default-signal=INT")


def fedge(*arguments: str | Path, text: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)
    return done.exit_code, done.output + str(done.exception or "")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "cli.main", "rounds", "watch", *map(str, arguments)]


def eventually(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_stream_tells_what_happens_while_it_happens_and_ends_with_ctrl_c(home: Path, database: Database) -> None:
    progress = StoredProgress(database)
    watching = subprocess.Popen(
        [*HEARS_CTRL_C, *command("--home", home, "--json")], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["type"] == "controls"
        progress.event("round.started", "round 3 begins", round_number=3)
        line = json.loads(watching.stdout.readline())
        assert (line["type"], line["kind"], line["round"]) == ("event", "round.started", 3)
        with progress.phase(PLACE, "masked_upload", expected=16, needed=11) as reported:
            line = json.loads(watching.stdout.readline())
            assert (line["type"], line["phase"], line["finished"]) == ("phase", "masked_upload", None)
            reported(12)
        while (line := json.loads(watching.stdout.readline()))["finished"] is None:
            pass
        assert (line["reported"], line["expected"], line["needed"]) == (12, 16, 11)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE_S) == 0
    finally:
        watching.kill()
        watching.communicate()


def test_the_terminal_shows_the_margin_while_the_phase_goes_on(home: Path, database: Database) -> None:
    progress = StoredProgress(database)
    database.save_round(RoundRow(round=2, state="finished", cohort=16, survivors=15, started=1.0, finished=2.0))
    ours, theirs = pty.openpty()
    watching = subprocess.Popen([*HEARS_CTRL_C, *command("--home", home)], stdout=theirs, stderr=theirs, env=ENVIRONMENT)
    os.close(theirs)
    seen = bytearray()

    def shown(wanted: str) -> bool:
        while select.select([ours], [], [], 0.05)[0]:
            seen.extend(os.read(ours, 65536))
        return wanted in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode(errors="replace"))

    try:
        with progress.phase(PLACE, "masked_upload", expected=16, needed=11) as reported:
            progress.event("device.left", "device-7 left at query.shares: no answer", round_number=3, attempt=1)
            time.sleep(0.3)
            reported(12)
            eventually(lambda: shown("12 of 16 reported, at least 11 needed"))
        eventually(lambda: shown("Round 3, update, attempt 1 (nothing runs now)"))
        assert shown("device-7 left at query.shares: no answer") and shown("15 of 16") and shown("no noise")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE_S) == 0
        assert "Traceback" not in seen.decode(errors="replace")
    finally:
        watching.kill()
        watching.wait()
        os.close(ours)


def test_without_a_server_there_is_one_line_and_exit_code_1(home: Path, tmp_path: Path) -> None:
    nowhere = subprocess.run(
        command("--home", tmp_path / "no"), capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert nowhere.returncode == 1 and nowhere.stderr.count("\n") == 1 and "is not set up" in nowhere.stderr
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (home / "server" / "server.toml").write_text(f"superlink_port = {port}\n")
    down = subprocess.run(command("--home", home), capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert down.returncode == 1 and down.stderr.count("\n") == 1 and "no server runs in" in down.stderr
    assert fedge("rounds", "watch", "--home", home, "--once")[0] == 0


def test_an_act_is_confirmed_and_audited_under_the_users_own_name(
    home: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "anna")
    code, _ = fedge("rounds", "pause", "--home", home, text="n\n")
    assert code == 1 and database.controls.get().state == "running" and database.audit.latest(9) == []
    code, said = fedge("rounds", "pause", "--home", home, "--reason", "maintenance", text="y\n")
    assert code == 0 and "Rounds: paused" in said
    (row,) = database.audit.latest(9)
    assert (row.actor, row.role, row.action, row.reason) == ("anna", "operator", "rounds.pause", "maintenance")
    code, said = fedge("rounds", "set", "--home", home, "--cohort", "16", "--period", "60", "--yes", "--json")
    assert code == 0 and json.loads(said) | {"at": 0} == {
        "state": "paused", "cohort": 16, "period_s": 60.0, "asked_now": 0, "by": "anna", "at": 0,
    }  # fmt: skip
    code, said = fedge("rounds", "set", "--home", home, "--cohort", "5", "--yes")
    assert code == 1 and "a cohort of 5 cannot be: choose 11 to 128" in said
    for action, state in (("resume", "running"), ("stop", "stopped"), ("start", "running")):
        assert fedge("rounds", action, "--home", home, "--yes")[0] == 0
        assert database.controls.get().state == state
    assert database.controls.get().asked_now == 1 and database.audit.broken() is None
