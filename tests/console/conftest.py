import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from aggregator.console import create_app
from aggregator.store import AttemptRow, Database, DropoutRow, RoundRow

sys.path.append(str(Path(__file__).parent))  # for `console_page`


def _record_rounds(database: Database, count: int) -> None:
    for number in range(1, count + 1):
        database.save_round(
            RoundRow(
                round=number,
                state="finished",
                attempts=1,
                cohort=12,
                survivors=11,
                started=0.0,
                finished=60.0,
                seconds={"unmask": 2.5, "publish": 0.5},
                release="ab" * 32,
                metrics={"certificate": "certified"},
            )
        )
        session: dict[str, Any] = {"round": number, "attempt": 1, "purpose": "update"}
        database.add_attempt(AttemptRow(**session, outcome="finished", cohort=12, survivors=11, started=0.0, finished=4.0))
        database.set_cohort(number, attempt=1, purpose="update", devices=["device-7", "device-6"])
        database.add_dropouts([DropoutRow(**session, device_id="device-7", stage="query.shares", reason="no answer")])


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{tmp_path / 'aggregator.sqlite'}") as opened:
        yield opened


@pytest.fixture
def client(database: Database) -> TestClient:
    return TestClient(create_app(database), base_url="http://127.0.0.1:8350", raise_server_exceptions=False)


@pytest.fixture
def record_rounds(database: Database) -> Callable[[int], None]:
    """Records rounds 1 to n; in each, 12 devices begin and device-7 leaves."""
    return partial(_record_rounds, database)
