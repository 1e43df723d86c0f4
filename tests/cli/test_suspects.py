"""`fedge rounds suspects` and `fedge rounds readmit`, over a real database; the rounds process obeys at its next round."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aggregator.rounds.controls import Steering
from aggregator.rounds.interfaces import NoProgress
from aggregator.rounds.robust_sum import SumHistory
from aggregator.rounds.server_optimizer import OptimizerState
from aggregator.rounds.state import FederationState
from aggregator.rounds.suspicion import Suspicion, SuspicionPolicy, Verdict
from aggregator.store import Database, RoundRow
from cli.main import app
from fedge.routing import RunningBound

POLICY = SuspicionPolicy()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "server.toml").write_text("")
    return tmp_path


@pytest.fixture
def database(home: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{home / 'server' / 'aggregator.sqlite'}") as opened:
        yield opened


def fedge(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output + str(done.exception or "")


def keep(database: Database, suspicion: Suspicion) -> None:
    """Store a round whose state holds ``suspicion``."""
    state = FederationState(
        round_number=1,
        head={"head.bias": np.zeros(2, np.float32)},
        optimizer=OptimizerState(np.zeros(2), np.zeros(2)),
        temperature=1.0,
        release_id="a" * 64,
        version=1,
        running=RunningBound(),
        threshold=None,
        probe_rate=0.1,
        certificate_state="none",
        certificate_bound=None,
        history=SumHistory.begin(clip_norm=1.0, weight_cap=4),
        suspicion=suspicion,
    )
    database.save_round(RoundRow(round=1, state="finished", started=1.0, finished=2.0), state.to_bytes())


def suspicion() -> Suspicion:
    """Return the evidence after one spoiled sum of five devices and a dealing that the protocol blames on another one."""
    observed = Suspicion().observe("bcdef", Verdict.SUM, period=1, purpose="update", policy=POLICY)
    return observed.observe(["device-7"], Verdict.SHARES, period=1, purpose="update", policy=POLICY)


def test_a_fleet_without_suspects_is_one_line(home: Path, database: Database) -> None:
    assert fedge("rounds", "suspects", "--home", home) == (0, "No device is excluded, and no spoiled sum is unexplained.\n")


def test_suspects_are_listed_with_what_to_do_about_them(home: Path, database: Database) -> None:
    keep(database, suspicion())
    code, text = fedge("rounds", "suspects", "--home", home)
    assert code == 0 and "device-7" in text and "fedge rounds readmit" in text and "1 spoiled sum" in text
    document = json.loads(fedge("rounds", "suspects", "--home", home, "--json")[1])
    assert [one["device"] for one in document["excluded"]] == ["device-7"]
    assert [one["device"] for one in document["suspected"]] == list("bcdef")
    assert document["unexplained"] == [{"period": 1, "purpose": "update", "verdict": "sum", "devices": 5}]


def test_a_readmission_is_audited_and_reaches_the_rounds(home: Path, database: Database) -> None:
    keep(database, suspicion())
    assert fedge("rounds", "readmit", "device-7", "--home", home, "--reason", "new firmware", "--yes")[0] == 0
    (row,) = database.audit.latest(9)
    assert (row.action, row.target, row.reason) == ("rounds.readmit", "device-7", "new firmware")
    steering = Steering(database, NoProgress(), None, period_s=60.0)  # type: ignore[arg-type]
    assert dict(steering.readmissions) == {"device-7": 1}
    assert not suspicion().lift(steering.readmissions).excluded


def test_only_excluded_devices_can_be_readmitted(home: Path, database: Database) -> None:
    code, text = fedge("rounds", "readmit", "device-9", "--home", home, "--yes")
    assert code == 1 and "device-9 is not excluded from rounds" in text
