"""The benchmark of a large fleet, small: every page is measured, and none reads the ledger itself."""

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from aggregator.console import create_app
from aggregator.operator import Operator
from aggregator.settings import ServerHome
from aggregator.store import Database
from benchmarks import console_scale
from benchmarks.console_fleet import Size, device_id, fill, make_home, release_id

SMALL = Size(devices=50, rounds=20, ledger_rows=2_003, events=20, acts=5)
NOW = 1_800_000_000.0
LEDGER = re.compile(r"\bledger\b")


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    made = ServerHome(tmp_path / "home")
    keys = make_home(made, SMALL, now=NOW, say=lambda text: None)
    fill(made.database_url, SMALL, keys, Operator(made).registry(), now=NOW, say=lambda text: None)
    return made


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
