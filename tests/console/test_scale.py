"""The benchmark of a large fleet, small: every page is measured, and none reads the ledger itself."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from aggregator.admin import Operator
from aggregator.console import create_app
from aggregator.settings import ServerHome
from aggregator.store import Database
from benchmarks import console_scale
from benchmarks.console_fleet import Size, device_id, fill, make_home, release_id

SMALL = Size(devices=50, rounds=20, ledger_rows=2_003, events=20, acts=5)
NOW = 1_800_000_000.0
LEDGER = re.compile(r"\bledger\b")
GROWING = (
    "ledger",
    "events",
    "round_phases",
    "cohorts",
    "dropouts",
    "attempts",
    "records",
    "certificates",
    "rollouts",
    "audit",
)
"""Tables with more than a row a round; a page's statement finds its rows of them by a key or an index."""


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    made = ServerHome(tmp_path / "home")
    keys = make_home(made, SMALL, now=NOW, say=lambda text: None)
    fill(made.database_url, SMALL, keys, Operator(made).registry(), now=NOW, say=lambda text: None)
    return made


def scanned(database: sqlite3.Connection, statement: str, given: Any) -> list[str]:
    """Where SQLite would read a growing table from end to end for a statement: all of it, or all of the one run's rows."""
    plan = [str(row[3]) for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", given)]
    whole = r"SCAN {0}\b" if "LIMIT" in statement else r"SCAN {0}\b|SEARCH {0} .*\(run_id=\?\)$"
    return [line for line in plan for table in GROWING if re.match(whole.format(table), line)]


def test_no_page_reads_a_table_that_grows_from_end_to_end(home: ServerHome) -> None:
    statements: dict[str, Any] = {}

    def listen(_connection: object, _cursor: object, statement: str, given: Any, *_rest: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            statements[statement] = given

    with Database.open(home.database_url) as database:
        app = create_app(database, federation=console_scale.ABOUT, operator=Operator(home), clock=lambda: NOW)
        event.listen(Engine, "before_cursor_execute", listen)
        try:
            with console_scale.serving(app) as port:
                console_scale.measure(port, console_scale.pages(SMALL), 1)
        finally:
            event.remove(Engine, "before_cursor_execute", listen)
    with closing(sqlite3.connect(home.database_url.removeprefix("sqlite:///"))) as plain:
        found = {one: scanned(plain, one, given) for one, given in statements.items()}
        assert len(found) > 20
        whole = [lines for lines in found.values() if lines]
        # The list of all releases asks for the newest certificate of each, in an index that holds what it asks for.
        assert whole == [["SEARCH certificates USING COVERING INDEX certificates_of_a_release (run_id=?)"]]
        assert scanned(plain, "SELECT count(*) FROM events WHERE text = ?", ("x",)), "as a page that scans would show"


def test_every_page_is_measured_and_reads_sums_in_place_of_the_ledger(home: ServerHome) -> None:
    statements: list[str] = []

    def listen(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    paths = console_scale.pages(SMALL)
    with Database.open(home.database_url) as database:
        app = create_app(database, federation=console_scale.ABOUT, operator=Operator(home), clock=lambda: NOW)
        event.listen(Engine, "before_cursor_execute", listen)
        try:
            with console_scale.serving(app) as port:
                medians = console_scale.measure(port, paths, 1)
            read = list(statements)
            database.ledger(1)
        finally:
            event.remove(Engine, "before_cursor_execute", listen)
    assert set(medians) == set(paths) and all(median > 0 for median in medians.values())
    assert any("ledger_sums" in statement for statement in read)
    assert not [statement for statement in read if LEDGER.search(statement)]
    assert any(LEDGER.search(one) for one in statements[len(read) :]), "as a page that reads the ledger would show"


def test_the_pages_are_those_of_the_application() -> None:
    paths = console_scale.pages(SMALL)
    assert {"/", "/rounds", "/rounds/10", "/api/v1/rounds", "/metrics", "/security", "/api/v1/costs/series"} <= set(paths)
    assert {f"/devices/{device_id(25)}", f"/releases/{release_id(10)}"} <= set(paths)
    assert not [path for path in paths if path.startswith(("/login", "/static", "/api/v1/events/stream"))]
    assert len(paths) == len(set(paths))


def test_the_ledger_that_is_made_adds_up_to_its_sums(home: ServerHome) -> None:
    with Database.open(home.database_url) as database:
        sums = database.spent_by_round(1)
        entries = {number: database.ledger(number) for number in range(1, SMALL.rounds + 1)}
        assert database.audit.broken() is None
    assert sum(map(len, entries.values())) == SMALL.ledger_rows
    for number, rows in entries.items():
        assert sum(sums[number].values()) == pytest.approx(sum(row.amount_usd for row in rows))


def test_the_command_prints_json_with_a_line_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--sqlite", "--json", "--devices", "50", "--rounds", "4", "--ledger-rows", "40", "--repetitions", "1"]
    console_scale.main(wanted)
    results = json.loads(capsys.readouterr().out)["results"]
    measured = [one["case"]["forgetting"] for one in results if one["case"]["page"] == "/metrics"]
    assert measured == [False, True]
    assert {one["case"]["database"] for one in results} == {"sqlite"}
