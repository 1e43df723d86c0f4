"""The closed loop from end to end: real devices, Flower apps, secure aggregation, releases, certificates, ledger."""

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from fedge.costs import PriceBook, load_profiles, repriced
from fedge.costs.figures import packaged_text
from fedge.costs.prices import DEFAULT_BOOK
from fedge.errors import InputError
from fedge.release import load_private_key, read_release
from sim.config import SimulationConfig
from sim.preparation import Preparation, prepare
from sim.run import simulate
from sim.settings import PROFILE

DEVICES = 16
ROUNDS = 3


class Quiet:
    """An observer that only counts; ``stop_before`` interrupts like Ctrl-C when that round's queries begin."""

    def __init__(self, stop_at: str = "") -> None:
        self.entries: list[dict[str, Any]] = []
        self.stop_at = stop_at

    def stage(self, text: str) -> None:
        if self.stop_at and text.startswith(self.stop_at):
            raise KeyboardInterrupt

    def round_finished(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)


def config(out: Path, **changes: Any) -> SimulationConfig:
    values: dict[str, Any] = {
        "workload": "digits", "devices": DEVICES, "rounds": ROUNDS, "seed": 3, "queries_per_round": 60, "out": out, **changes
    }
    return SimulationConfig(**values).checked()


@pytest.fixture(scope="module")
def preparation(tmp_path_factory: pytest.TempPathFactory) -> Preparation:
    return prepare(config(tmp_path_factory.mktemp("preparation")), stage=lambda text: None)


@pytest.fixture(scope="module")
def run(preparation: Preparation) -> Callable[..., dict[str, Any]]:
    def play(out: Path, *, resume: bool = False, stop_at: str = "", **changes: Any) -> dict[str, Any]:
        return simulate(config(out, **changes), observer=Quiet(stop_at), resume=resume, preparation=preparation)

    return play


def without_seconds(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: value for key, value in summary.items() if key not in ("seconds", "parameters")},
        "rounds": [{key: value for key, value in entry.items() if key != "seconds"} for entry in summary["rounds"]],
    }


@pytest.fixture(scope="module")
def reference(run: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("reference")
    return out, run(out, dropout=0.2)


def test_the_fleet_learns_from_centrals_answers_alone(reference: tuple[Path, dict[str, Any]]) -> None:
    first, *_, last = reference[1]["rounds"]
    assert first["stream"]["local"] == 0  # no certificate yet: everything escalates
    assert last["accuracy"]["device"] > 0.7
    assert last["fallback_rate"] < 0.5
    assert last["accuracy"]["system"] >= last["accuracy"]["central"] - 0.05
    assert last["usd_per_1k"]["marginal"] < first["usd_per_1k"]["marginal"]


def test_the_same_inputs_and_seed_give_the_same_summary(
    run: Callable[..., dict[str, Any]], reference: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    assert without_seconds(run(tmp_path, dropout=0.2)) == without_seconds(reference[1])


def test_plain_sums_give_the_same_weights_in_every_round_under_the_same_dropouts(
    run: Callable[..., dict[str, Any]], reference: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    plain = run(tmp_path, dropout=0.2, secagg=False)
    assert plain["secagg"] is False and reference[1]["secagg"] is True
    for ours, theirs in zip(plain["rounds"], reference[1]["rounds"], strict=True):
        for key in ("weights_sha256", "attempts", "cohort", "survivors", "threshold", "release"):
            assert ours[key] == theirs[key]


def test_an_interrupted_run_resumes_to_the_summary_of_an_unbroken_one(
    run: Callable[..., dict[str, Any]], reference: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, dropout=0.2, stop_at="round 3: training")
    resumed = run(tmp_path, dropout=0.2, resume=True)
    assert without_seconds(resumed) == without_seconds(reference[1])


def test_central_over_grpc_gives_the_same_answers_as_in_process(
    run: Callable[..., dict[str, Any]], reference: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    assert without_seconds(run(tmp_path, dropout=0.2, central="grpc")) == without_seconds(reference[1])


def test_resuming_with_another_parameter_is_refused_by_name(
    run: Callable[..., dict[str, Any]], reference: tuple[Path, dict[str, Any]]
) -> None:
    with pytest.raises(InputError, match="--max-risk"):
        run(reference[0], dropout=0.2, max_risk=0.1, resume=True)


def test_resuming_where_nothing_was_interrupted_is_refused(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no interrupted run"):
        run(tmp_path / "nothing", resume=True)


def test_a_finished_run_can_be_continued_with_more_rounds(
    run: Callable[..., dict[str, Any]], reference: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run(tmp_path, dropout=0.2, rounds=2)
    longer = run(tmp_path, dropout=0.2, rounds=ROUNDS, resume=True)
    assert without_seconds(longer) == without_seconds(reference[1])


def test_what_was_used_costs_at_the_runs_own_prices_what_the_run_says_and_at_others_what_another_run_says(
    run: Callable[..., dict[str, Any]], reference: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    text = packaged_text(DEFAULT_BOOK)
    (tmp_path / "dear.toml").write_text(text.replace("value = 0.09", "value = 9").replace("_mtok = 5.0", "_mtok = 50.0"))
    dear = PriceBook.from_toml((tmp_path / "dear.toml").read_text())
    played = run(tmp_path / "run", dropout=0.2, prices=tmp_path / "dear.toml")
    profile = load_profiles()[PROFILE]
    for entry, again in zip(reference[1]["rounds"], played["rounds"], strict=True):
        at_home, elsewhere = (repriced(entry["quantities"], book, profile) for book in (PriceBook.load_default(), dear))
        assert {kind.value: usd for kind, usd in at_home.items()} == pytest.approx(entry["usd"])
        # A manifest names its price book, and their names are of one length here: bytes are the same.
        assert {kind.value: usd for kind, usd in elsewhere.items()} == pytest.approx(again["usd"])


def test_everything_is_written_and_the_last_release_verifies(reference: tuple[Path, dict[str, Any]]) -> None:
    out, summary = reference
    assert json.loads((out / "summary.json").read_text()) == summary
    assert len((out / "rounds.csv").read_text().splitlines()) == 1 + ROUNDS
    assert "<html" in (out / "report.html").read_text()
    did, last = summary["routing"]["threshold"], summary["rounds"][-1]
    assert last["fallback_rate"] == pytest.approx(1 - did["local"] / did["queries"])
    assert summary["routing"]["all"]["accuracy"]["device"] == last["accuracy"]["device"]
    key = load_private_key(out / "state" / "keys" / "release.pem").public_key()
    assert read_release(out / "release", key).release_id == summary["rounds"][-1]["release"]


def test_nothing_of_the_summary_is_missing(reference: tuple[Path, dict[str, Any]]) -> None:
    _, summary = reference
    keys = {"workload", "data_sha256", "devices", "rounds", "break_even_round", "secagg", "seed", "version"}
    assert keys <= set(summary)
    for entry in summary["rounds"]:
        assert {
            "round",
            "attempts",
            "cohort",
            "survivors",
            "fallback_rate",
            "accuracy",
            "accuracy_in_scope",
            "local_disagreement",
            "threshold",
            "certificate",
            "certified_risk",
            "weights_sha256",
            "usd_per_1k",
            "usd",
            "bytes",
            "seconds",
        } <= set(entry)
        assert set(entry["accuracy"]) == {"device", "system", "central"}
        assert set(entry["usd_per_1k"]) == {"marginal", "loaded", "all_cloud"}
        assert {"up", "down"} <= set(entry["bytes"])


def test_the_ledger_adds_up(reference: tuple[Path, dict[str, Any]]) -> None:
    for entry in reference[1]["rounds"]:
        assert sum(entry["usd"].values()) == pytest.approx(entry["usd_total"]["loaded"])
        assert sum(entry["usd_by_payer"].values()) == pytest.approx(entry["usd_total"]["loaded"])
        standing = entry["usd"]["device_idle"] + entry["usd"]["device_hardware"]
        assert entry["usd_total"]["marginal"] == pytest.approx(entry["usd_total"]["loaded"] - standing)
        asked = entry["stream"]["escalated"] + entry["stream"]["probes"]
        paid = entry["usd"].get("escalations", 0.0) + entry["usd"].get("probes", 0.0)
        assert paid == pytest.approx(asked * 0.75 / 1000)


def test_a_fleet_too_small_to_hide_in_must_be_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--insecure-small-cohort"):
        config(tmp_path, devices=4)
    assert config(tmp_path, devices=4, insecure_small_cohort=True).secagg_label == "demo"


def test_sixteen_bits_make_the_updates_smaller_and_the_fleet_still_learns(
    run: Callable[..., dict[str, Any]], reference: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    summary = run(tmp_path / "secure", bits=16, dropout=0.2)
    assert summary["rounds"][-1]["accuracy"]["device"] > 0.7
    half, whole = summary["rounds"][0]["bytes"]["update"], reference[1]["rounds"][0]["bytes"]["update"]
    assert half < 0.8 * whole  # the head's weights take half; the integers of both sessions three coordinates at 16 bits
    plain = run(tmp_path / "plain", bits=16, dropout=0.2, secagg=False)
    assert [entry["weights_sha256"] for entry in plain["rounds"]] == [e["weights_sha256"] for e in summary["rounds"]]


def test_with_noise_epsilon_grows_by_the_round_and_both_ways_of_summing_agree(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    secure, plain = (run(tmp_path / name, secagg=way, dp_noise_multiplier=4.0) for name, way in (("s", True), ("p", False)))
    assert [e["weights_sha256"] for e in secure["rounds"]] == [e["weights_sha256"] for e in plain["rounds"]]
    epsilons = [entry["privacy"]["epsilon"] for entry in secure["rounds"]]
    assert 0 < epsilons[0] < epsilons[1] < epsilons[2] == secure["privacy"]["epsilon"]
    assert secure["privacy"]["noise_to_signal"] > 1
    assert all(entry["training_loss"] is None for entry in secure["rounds"])  # no exact metric beside a noisy sum
    assert secure["privacy"]["supported"] and secure["privacy"]["verdict"].startswith("private")
    assert not plain["privacy"]["supported"] and "single updates" in plain["privacy"]["verdict"]
    report = (tmp_path / "s" / "report.html").read_text()
    assert "Differential privacy" in report and secure["privacy"]["verdict"] in unescape(report)


def test_a_run_without_noise_says_nothing_of_epsilon(reference: tuple[Path, dict[str, Any]]) -> None:
    out, summary = reference
    assert summary["privacy"] is None and "privacy" not in summary["rounds"][0]
    assert "epsilon" not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bits": 8}, "--bits 8: coordinates have 16 or 32 bits"),
        ({"dp_noise_multiplier": -1.0}, "--dp-noise-multiplier -1.0: give 0"),
        ({"dp_noise_multiplier": float("nan")}, "--dp-noise-multiplier nan: give 0"),
        ({"dp_delta": 0.0}, "--dp-delta 0.0: give a probability"),
        ({"cohort": 1}, "--cohort 1: at least 2 devices"),
        ({"cohort": 300, "devices": 300, "bits": 32, "rounds": 0}, "--rounds 0"),
    ],
)
def test_parameters_that_cannot_be_are_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        config(tmp_path, **changes)
    assert str(error.value).startswith(said)


def test_devices_beyond_the_largest_cohort_train_in_several() -> None:
    assert SimulationConfig(devices=300, cohort=300).checked().smallest_cohort == 100
    assert SimulationConfig(devices=129, cohort=300).checked().smallest_cohort == 64
    assert SimulationConfig(devices=30, cohort=32).checked().smallest_cohort == 30
