"""`fedge server audit`: the acts, and the whole chain checked, over a server's own database."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from aggregator.console import create_app
from aggregator.settings import ServerHome
from aggregator.store import Database
from cli.main import app
from fedge.errors import InputError


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    made = ServerHome(tmp_path / "server")
    made.folder.mkdir()
    made.settings_file.write_text("console_port = 0\n")
    with Database.open(made.database_url) as database:
        for number in range(1, 4):
            database.audit.append(
                at=60.0 * number, actor="ada", role="operator", action="rounds.pause", reason=f"no {number}"
            )
    return made


def audit(home: ServerHome, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["server", "audit", *arguments, "--home", str(home.folder)])


def change_an_old_act(home: ServerHome) -> None:
    with closing(sqlite3.connect(home.database_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("DROP TRIGGER audit_UPDATE")
        connection.execute("UPDATE audit SET actor = 'eve' WHERE number = 2")


def test_the_newest_acts_are_listed_and_the_chain_is_checked_when_asked(home: ServerHome) -> None:
    plain = json.loads(audit(home, "--count", "2", "--json").stdout)
    assert [row["reason"] for row in plain["audit"]] == ["no 3", "no 2"] and plain["verified"] is None
    said = audit(home, "--verify")
    assert said.exit_code == 0 and "The chain of 3 rows holds" in said.stdout
    assert plain["audit"][0]["hash"] in said.stdout  # to be kept elsewhere


def test_a_changed_old_act_is_found_by_the_whole_check(home: ServerHome) -> None:
    change_an_old_act(home)
    found = audit(home, "--verify", "--json")
    assert found.exit_code == 1 and json.loads(found.stdout)["verified"]["broken_at"] == 2
    assert "broken at row 2" in found.stderr


def test_the_console_finds_it_at_its_start_and_says_what_its_pages_checked(home: ServerHome) -> None:
    with Database.open(home.database_url) as database:
        browser = TestClient(create_app(database, clock=lambda: 7200.0), base_url="http://127.0.0.1:8350")
        change_an_old_act(home)
        database.audit.append(at=300.0, actor="ada", role="operator", action="rounds.resume")
        found = browser.get("/api/v1/security").json()
        assert found["audit_broken_at"] is None
        assert found["audit_checked"] == {"whole": 3, "whole_at": 7200.0, "since": 1}
        shown = browser.get("/security", headers={"Accept": "text/html"}).text
        assert "and 1 entry since." in shown and "1970-01-01 02:00" in shown
        again = TestClient(create_app(database), base_url="http://127.0.0.1:8350")
        assert again.get("/api/v1/security").json()["audit_broken_at"] == 2
        assert "broken at row 2" in again.get("/security", headers={"Accept": "text/html"}).text


def test_an_act_that_failed_says_why_on_the_page_and_in_the_terminal(home: ServerHome) -> None:
    release, said = "ab" * 32, "release abababababab is retired, not candidate"
    with Database.open(home.database_url) as database:
        who = {"actor": "ada", "role": "operator", "action": "release.promote", "target": release, "reason": "a try"}
        with pytest.raises(InputError), database.audit.recorded(lambda: 300.0, **who):
            raise InputError(said)
        browser = TestClient(create_app(database, clock=lambda: 7200.0), base_url="http://127.0.0.1:8350")
        shown = browser.get("/security", headers={"Accept": "text/html"}).text
    assert said in shown and f'<code title="{release}">{release[:12]}</code>' in shown
    told = " ".join(audit(home, "--count", "1").stdout.split())
    assert "5 release.promote.failed abababababab" in told and release not in told
