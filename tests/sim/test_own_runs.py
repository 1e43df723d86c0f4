"""Scenarios that play runs of their own: a new intent, a replaced model. The loop is real; what is told of it, by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.rounds.interfaces import Registry
from aggregator.rounds.release_builder import ReleaseMaker
from aggregator.rounds.rollout import replace_base
from aggregator.rounds.state import FederationState
from aggregator.wiring import release_maker
from aggregator.workbench.device_model import build_device_model
from aggregator.workbench.workloads import Drawn, WorkloadFacts
from edge_client.store import restore
from fedge.costs import PriceBook
from fedge.errors import InputError
from fedge.release import Manifest, Release
from sim import checkpoint as checkpoints
from sim import run as simulation
from sim.config import SimulationConfig
from sim.days import Observer
from sim.measure import TestAnswers as Answers
from sim.preparation import Preparation, prepare
from sim.scenarios.arrival import Arrival, Learned, shares
from sim.scenarios.model_replaced import model_replaced
from sim.scenarios.new_base import Before, Case, Replaced
from sim.scenarios.new_intent import new_intent
from sim.scenarios.own_runs import OwnRuns, same_run
from tests.sim.test_scenarios import GIVEN, LAST, record


class Quiet:
    def stage(self, text: str) -> None:
        pass

    def round_finished(self, entry: dict[str, Any]) -> None:
        pass


@contextmanager
def quiet(title: str, config: SimulationConfig) -> Iterator[Observer]:
    yield Quiet()


def traffic(*labels: list[int]) -> list[list[Drawn]]:
    """One device a list."""
    return [[Drawn("", label, 0, False) for label in mine] for mine in labels]


def asked(played: list[list[Drawn]]) -> list[list[int]]:
    return [[one.label for one in mine] for mine in played]


def test_an_intent_is_withheld_until_its_day_and_then_asked_by_the_device_that_asks_it_most() -> None:
    day = traffic([7, 1], [7, 7, 2], [3])
    arrival = Arrival(intent=7, day=3)
    assert asked(arrival(2, day)) == [[1], [2], [3]]
    assert asked(arrival(3, day)) == [[1], [7, 7, 2], [3]]
    assert asked(arrival(4, traffic([7, 7, 7], [7], []))) == [[], [7], []]
    assert (arrival.device, arrival.asked) == (1, {2: 0, 3: 2, 4: 1})


def test_an_intent_that_nobody_asks_on_its_day_waits_and_everywhere_means_everyone() -> None:
    late = Arrival(intent=7, day=1)
    assert asked(late(1, traffic([1], [2]))) == [[1], [2]]
    assert asked(late(2, traffic([1], [7]))) == [[1], [7]]
    assert late.device == 1
    everyone = Arrival(intent=7, day=1, everywhere=True)
    assert asked(everyone(1, traffic([7, 1], [7]))) == [[7, 1], [7]]


def test_only_the_other_devices_handwriting_counts_and_only_answers_that_stay_local() -> None:
    truth, owner = np.array([7, 7, 7, 7, 7, 1]), np.array([0, 1, 1, 1, 2, 1])
    local, nobody = np.array([1, 1, 0, 1, 1, 1], dtype=bool), np.zeros(6, dtype=bool)
    answers = Answers(np.array([7, 7, 7, 3, 7, 1]), np.zeros(6), local, human=nobody, ruled=nobody)
    assert shares(answers, truth, owner, intent=7, device=2) == (0.5, 0.25)
    assert shares(answers, truth, owner, intent=7, device=None) == (0.6, 0.2)
    assert shares(answers, truth, owner, intent=5, device=None) == (0.0, 0.0)


def learned(*right: float) -> Learned:
    return Learned(name="asked at one device", asked=(0, *(3 for _ in right[1:])), right=right, wrong=(0.2,) * len(right))


def test_the_fleet_answers_an_intent_from_the_day_on_which_half_of_it_stays_local_for_good() -> None:
    assert learned(0.0, 0.1, 0.5, 0.9).days == 2
    assert learned(0.0, 0.6, 0.4, 0.5).days == 3  # a day above half does not count where it is lost again
    assert learned(0.0, 0.6, 0.4).days is None
    told = new_intent(GIVEN, [learned(0.0, 0.1, 0.5), replace(learned(0.0, 0.1, 0.2), name="asked at every device")])
    assert [row[1:4] for row in told.rows[:2]] == [(2.0, 6.0, 0.5), ("not reached", 6.0, 0.2)]
    assert "after 2 days and 6 queries" in told.findings[0]
    shorter = new_intent(GIVEN, [learned(0.0, 0.1, 0.5), replace(learned(0.0, 0.4), name="asked at every device")])
    assert [one.values for one in shorter.chart.lines[:2]] == [(0.0, 0.1, 0.5), (0.0, 0.4, None)]
    assert "within 1 day" in shorter.findings[1]
    assert told.own_runs and told.sources


def day(number: int, *, local: int, asked: int, certificate: str = "none", fallback: float = 0.5) -> dict[str, Any]:
    stream = {"queries": 100, "local": local, "escalated": asked, "probes": 0}
    used = {"escalations": float(asked), "downlink_releases": 1e6, "device_inference": 10.0, "device_idle": 1e9}
    changed = {"round": number, "stream": stream, "quantities": used, "certificate": certificate, "fallback_rate": fallback}
    return {**LAST, **changed}


def test_a_replaced_model_is_told_beside_the_one_that_is_kept() -> None:
    """100 more answers of central at 0.00075 USD each; bytes and joules are the same, and idling is nobody's difference."""
    before = Before(round=2, labelled=12, probes=5, pairs=8, disagreed=0, fallback_rate=0.2)
    kept = Case(name="old model kept", rounds=(day(3, local=80, asked=20, fallback=0.3), day(4, local=80, asked=20)))
    new = Case(
        name="new base",
        rounds=(day(3, local=0, asked=100), day(4, local=60, asked=40, certificate="certified", fallback=0.2)),
    )
    told = model_replaced(GIVEN, Replaced(before=before, cases=(kept, new, replace(new, name="another"))))
    assert (new.blind_days, new.certified_after, new.back_after(0.2), kept.back_after(0.2)) == (1, 2, 2, None)
    first, second, _ = told.rows
    assert second[3:7] == (1.0, 2.0, 2.0, 140.0)
    assert first[3:7] == (0.0, None, None, 40.0)
    assert second[7:9] == (2e6, 20.0)
    assert second[10] == pytest.approx(100 * 0.00075)
    assert second[9] == pytest.approx(140 * 0.00075 + 2 * 0.09e-3 + 20 * 0.1872 / 3.6e6)
    assert told.loses[0].startswith("New base: 100 more answers of central")
    assert "12 labelled queries and 5 probes" in told.findings[0]


def test_a_run_of_its_own_takes_the_recorded_parameters_and_refuses_another_file(tmp_path: Path) -> None:
    known = SimulationConfig(devices=10, rounds=4, alpha=0.7, cohort=9, bits=16, policy=tmp_path / "policy.toml")
    (tmp_path / "policy.toml").write_text("a")
    (tmp_path / "other.toml").write_text("b")
    played = replace(record(), parameters=known.parameters())
    again = same_run(played, data=None, policy=tmp_path / "policy.toml", prices=None, out=tmp_path)
    assert again == replace(known, out=tmp_path)
    for policy in (None, tmp_path / "other.toml"):
        with pytest.raises(InputError, match="--policy"):
            same_run(played, data=None, policy=policy, prices=None, out=tmp_path)
    with pytest.raises(InputError, match="--recorded-only"):
        same_run(record(), data=None, policy=None, prices=None, out=tmp_path)
    with pytest.raises(InputError, match=r"record\.json"):
        same_run(replace(record(), parameters={"devices": "ten"}), data=None, policy=None, prices=None, out=tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> OwnRuns:
    config = SimulationConfig(
        devices=16, rounds=5, seed=3, queries_per_round=60, out=tmp_path_factory.mktemp("runs")
    ).checked()
    made = OwnRuns(config=config, preparation=prepare(config, stage=lambda text: None), observe=quiet)
    made.play("", name="before", rounds=3)
    return made


@pytest.fixture(scope="module")
def wider(runs: OwnRuns) -> Preparation:
    model = build_device_model(runs.preparation.workload, b"another", warm_start=True, dimensions=96)
    return replace(runs.preparation, model=model)


def memories(folder: Path) -> list[set[bytes]]:
    stored = checkpoints.load(folder)
    assert stored is not None
    return [{one.content_hash for one in restore(device).memory.all()} for device in stored.devices]


def test_a_fleet_takes_a_base_of_another_structure_keeps_what_it_remembers_and_learns_on(
    runs: OwnRuns, wider: Preparation
) -> None:
    summary = runs.play("", name="wider", rounds=6, model=wider.model, after="before", new_base=True)
    last, first, second, third = summary["rounds"][2:]
    assert any("new base in place of" in note for note in first["notes"])
    assert first["outcome"] == second["outcome"] == "finished"
    assert first["stream"]["local"] == 0 < last["stream"]["local"]  # no certificate: everything escalates
    assert second["accuracy"]["device"] > 0.8
    assert third["stream"]["local"] > 0
    # The running pairs go on; what was stored as queries is still there and has taught the new head.
    assert first["probes"]["local"] >= last["probes"]["local"] > 0
    for earlier, later in zip(memories(runs.folder("before")), memories(runs.folder("wider")), strict=True):
        assert earlier <= later
    # Each device has downloaded the base itself.
    infer = len(wider.model.infer_int8)
    released = first["quantities"]["downlink_releases"] - second["quantities"]["downlink_releases"]
    assert released > 8 * infer


def test_rounds_on_a_base_that_the_server_does_not_have_are_refused(
    runs: OwnRuns, wider: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator promotes a base made from other models than the rounds go on with: one line, and no round on it."""

    def foreign(maker: ReleaseMaker, registry: Registry, state: FederationState, *, at: float) -> Release:
        facts = WorkloadFacts.of(runs.preparation.workload)
        other = release_maker(facts, wider.model, PriceBook.load_default(), maker.release_key)
        return replace_base(other, registry, state, at=at)

    monkeypatch.setattr(simulation, "replace_base", foreign)
    with pytest.raises(InputError, match="another device model"):
        runs.play("", name="foreign", rounds=4, after="before", new_base=True)


def test_a_base_is_known_by_the_hash_of_its_encoder_under_any_head(runs: OwnRuns, wider: Preparation) -> None:
    facts, key = WorkloadFacts.of(runs.preparation.workload), Ed25519PrivateKey.generate()
    maker, other = (
        release_maker(facts, model, PriceBook.load_default(), key) for model in (runs.preparation.model, wider.model)
    )
    head = {name: np.full_like(tensor, 0.1) for name, tensor in maker.first_head.items()}
    release = maker.make(head, version=1, temperature=1.0, parent=None)
    stored = Manifest.from_bytes(release.manifest.to_bytes())
    assert maker.is_base_of(replace(release, manifest=stored))
    assert not other.is_base_of(release)
    strange = replace(stored, encoder_sha256="00" * 32)
    assert not maker.is_base_of(replace(release, manifest=strange))
