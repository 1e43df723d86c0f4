"""How a round is told while it goes, what an operator's wish does to the next one, and what is written of both."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from aggregator.rounds import coordinator
from aggregator.rounds.certification import CertificatePolicy
from aggregator.rounds.config import RoundSettings
from aggregator.rounds.controls import Actor, Steering, act
from aggregator.rounds.interfaces import Place
from aggregator.rounds.progress import REPORT_EVERY_S, StoredProgress
from aggregator.rounds.server_optimizer import ServerOptimizer
from aggregator.store import Database, StoreError
from fedge.errors import InputError

PLACE = Place(3, 1, "update")
ANNA = Actor(name="anna", role="operator")


class Ticks:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{tmp_path}/aggregator.sqlite") as opened:
        yield opened


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def progress(database: Database, ticks: Ticks) -> StoredProgress:
    return StoredProgress(database, clock=ticks, ticks=ticks)


@pytest.fixture
def settings() -> RoundSettings:
    return RoundSettings(
        cohort=32,
        cohort_max=128,
        n_min=11,
        bits=32,
        clip_norm=1.0,
        weight_cap=4,
        max_attempts=3,
        phase_timeout_s=10.0,
        session_timeout_s=600.0,
        optimizer=ServerOptimizer(),
        certificate=CertificatePolicy(max_risk=0.05, confidence=0.95, lifetime_s=86_400.0, grid=(0.5,)),
    )


def written(database: Database) -> list[int]:
    return [row.reported for row in database.happenings.phases(3)]


def test_reports_are_written_a_few_times_a_second_and_the_last_one_at_the_end(
    database: Database, progress: StoredProgress, ticks: Ticks
) -> None:
    seen: list[int] = []
    with progress.phase(PLACE, "masked_upload", expected=16, needed=11) as reported:
        for count in range(1, 13):
            ticks.now += REPORT_EVERY_S / 4
            reported(count)
            seen += written(database)
        (row,) = database.happenings.phases(3)
        assert row.finished is None
    (row,) = database.happenings.phases(3)
    assert (row.reported, row.expected, row.needed, row.finished) == (12, 16, 11, ticks.now)
    assert set(seen) == {0, 4, 8, 12}


def test_a_phase_ends_whatever_ends_it(database: Database, progress: StoredProgress) -> None:
    with pytest.raises(ValueError, match="gone"), progress.phase(PLACE, "train", expected=4, needed=3) as reported:
        reported(2)
        raise ValueError("gone")
    (row,) = database.happenings.phases(3)
    assert row.reported == 2 and row.finished is not None


def test_what_a_crash_left_open_is_closed_at_the_next_start(
    database: Database, progress: StoredProgress, ticks: Ticks
) -> None:
    cut = progress.phase(PLACE, "unmask", expected=4, needed=3)
    cut.__enter__()  # and the process is killed
    ticks.now = 70.0
    StoredProgress(database, clock=ticks, ticks=ticks).recover()
    (row,) = database.happenings.phases(3)
    assert row.finished == 70.0
    (event,) = database.happenings.events()
    assert event.kind == "round.cut_off" and event.text.startswith("1 open phases")
    StoredProgress(database, clock=ticks, ticks=ticks).recover()
    assert len(database.happenings.events()) == 1


def test_a_store_that_fails_costs_the_view_and_not_the_round(
    database: Database, progress: StoredProgress, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database._engine.dispose()
    for file in tmp_path.iterdir():
        file.unlink()
    tmp_path.rmdir()
    with progress.phase(PLACE, "train", expected=4, needed=3) as reported:
        reported(4)
    progress.event("round.started", "round 3 begins", round_number=3)
    assert len([record for record in caplog.records if "nobody can watch" in record.message]) == 1


@pytest.mark.parametrize(
    ("action", "state"), [("pause", "paused"), ("stop", "stopped"), ("resume", "running"), ("start", "running")]
)
def test_each_act_is_a_wish_and_a_row_in_the_audit(database: Database, action: str, state: str) -> None:
    stands = act(database, action, by=ANNA, at=5.0, n_min=11, reason="maintenance")
    assert stands == database.controls.get() and (stands.state, stands.by, stands.at) == (state, "anna", 5.0)
    (row,) = database.audit.latest(9)
    assert (row.actor, row.role, row.action, row.reason) == ("anna", "operator", f"rounds.{action}", "maintenance")


def test_stopped_rounds_are_started_and_not_resumed(database: Database) -> None:
    act(database, "stop", by=ANNA, at=1.0, n_min=11)
    with pytest.raises(InputError, match="fedge rounds start"):
        act(database, "resume", by=ANNA, at=2.0, n_min=11)
    assert database.controls.get().state == "stopped"
    assert [row.action for row in database.audit.latest(9)] == ["rounds.resume.failed", "rounds.resume", "rounds.stop"]


def test_what_cannot_be_written_down_does_not_happen(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(database.audit, "append", refuse)
    with pytest.raises(StoreError, match="the disk is full"):
        act(database, "pause", by=ANNA, at=1.0, n_min=11)
    assert database.controls.get().state == "running"


@pytest.mark.parametrize(
    ("wanted", "n_min", "said"),
    [
        ({"cohort": 10}, 11, "a cohort of 10 cannot be: choose 11 to 128"),
        ({"cohort": 129}, 11, "choose 11 to 128"),
        ({"cohort": 7}, 8, "choose 8 to 128"),
        ({"cohort": 1}, 2, "choose 2 to 128"),
        ({"period_s": -1.0}, 11, "a period of -1 s cannot be"),
        ({"period_s": float("nan")}, 11, "a period of nan s cannot be"),
        ({}, 11, "give --cohort, --period, or both"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    database: Database, wanted: dict[str, float], n_min: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        act(database, "set", by=ANNA, at=1.0, n_min=n_min, **wanted)
    assert database.controls.get().at == 0.0 and database.audit.latest(9) == []


def test_a_demonstrations_cohorts_may_be_small(database: Database) -> None:
    assert act(database, "set", by=ANNA, at=1.0, n_min=2, cohort=3).cohort == 3


def test_the_wish_counts_from_the_next_round_on_and_is_said_once(
    database: Database, progress: StoredProgress, settings: RoundSettings
) -> None:
    steering = Steering(database, progress, settings, period_s=3600.0)
    assert (steering.holds, steering.asked, steering.period_s, steering.settings) == (False, False, 3600.0, settings)
    act(database, "set", by=ANNA, at=1.0, n_min=11, cohort=16, period_s=60.0)
    act(database, "pause", by=ANNA, at=2.0, n_min=11)
    assert not steering.holds  # not before it looks again
    for _ in range(2):
        steering.refresh(4)
    assert (steering.holds, steering.period_s) == (True, 60.0)
    assert steering.settings == replace(settings, cohort=16)
    said = {event.kind: event.text for event in database.happenings.events()}
    assert list(said) == ["rounds.paused", "rounds.cohort", "rounds.period"]
    assert said["rounds.paused"].startswith("rounds are paused by anna")
    assert said["rounds.cohort"] == "from round 4 on, cohorts have 16 devices, as anna said"


def test_a_round_that_was_asked_for_comes_once(
    database: Database, progress: StoredProgress, settings: RoundSettings
) -> None:
    steering = Steering(database, progress, settings, period_s=3600.0)
    act(database, "stop", by=ANNA, at=1.0, n_min=11)
    steering.refresh(1)
    act(database, "start", by=ANNA, at=2.0, n_min=11)
    steering.refresh(1)
    assert steering.asked and not steering.holds
    steering.begun()
    steering.refresh(2)
    assert not steering.asked


def test_a_pause_outlives_the_process(database: Database, progress: StoredProgress, settings: RoundSettings) -> None:
    act(database, "pause", by=ANNA, at=1.0, n_min=11)
    assert Steering(database, progress, settings, period_s=1.0).holds
    (event,) = database.happenings.events()
    assert event.kind == "rounds.paused" and "as anna said before" in event.text


def test_a_cohort_that_the_settings_no_longer_allow_is_left_out(
    database: Database, progress: StoredProgress, settings: RoundSettings
) -> None:
    act(database, "set", by=ANNA, at=1.0, n_min=8, cohort=8)
    assert Steering(database, progress, settings, period_s=1.0).settings == settings


class Connected:
    """Sixteen enrolled nodes, all of them connected."""

    def refresh(self) -> None:
        pass

    def online(self) -> int:
        return 16

    enrolled = online


def test_a_paused_service_begins_no_round_until_it_is_started(
    database: Database, progress: StoredProgress, settings: RoundSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "NODES_POLL_S", 0.01)
    parts = SimpleNamespace(clock=lambda: 100.0, stop=threading.Event(), settings=replace(settings, cohort=16))
    steering = Steering(database, progress, parts.settings, period_s=0.0)
    pacer = coordinator.FleetPacer(parts, None, database, Connected(), progress=progress, steering=steering)  # type: ignore[arg-type]
    assert pacer.wait(1)  # at once: nothing keeps it
    act(database, "pause", by=ANNA, at=1.0, n_min=11)
    began: list[bool] = []
    waiting = threading.Thread(target=lambda: began.append(pacer.wait(2)))
    waiting.start()
    try:
        while not database.happenings.events(kinds=["rounds.paused"]):
            assert waiting.is_alive()
        waiting.join(0.2)
        assert waiting.is_alive() and began == []
        act(database, "start", by=ANNA, at=2.0, n_min=11)
        waiting.join(60.0)
        assert began == [True]
    finally:
        parts.stop.set()
        waiting.join()
