"""Scenarios over a record of ten queries, whose figures can be worked out by hand; and what a page and a record must be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedge.costs import PriceBook, load_profiles
from fedge.errors import InputError
from sim.config import SimulationConfig
from sim.record import QueryColumns, RunRecord, read_record, write_record
from sim.scenarios.accelerators import accelerators, break_even, on_device
from sim.scenarios.base import Given
from sim.scenarios.economics import Running, cheapest, curve, quantities, running, worth_asking
from sim.scenarios.energy import conclusion
from sim.scenarios.error_price import optimum
from sim.scenarios.last_points import steps
from sim.scenarios.long_tail import accuracies, rarest
from sim.scenarios.page import render
from sim.scenarios.paradox import paradox
from sim.scenarios.play import ask_all, document
from sim.scenarios.subsidy import affordable
from sim.scenarios.two_tier import bearable, saved

BOOK = PriceBook.load_default()
USD_PER_J = 0.1872 / 3.6e6
ENERGY = "central_energy_wh_per_query"
LAST: dict[str, Any] = {
    "round": 1,
    "usd": {"escalations": 99.0},  # at the prices of the run: nothing may be taken from here
    "quantities": {
        "device_inference": 10.0,
        "device_training": 20.0,
        "device_idle": 1000.0,
        "device_hardware": 5000.0,
        "downlink_answers": 1e6,
        "escalations": 10.0,
        "probes": 10.0,
    },
    "bytes": {"up": 1, "down": 1},
    "threshold": 0.5,
    "fallback_rate": 0.1,
    "accuracy": {"device": 0.8, "system": 0.9, "central": 1.0},
    "certificate": "certified",
    "probes": {"local": 8, "disagreed": 0},
    "stream": {"queries": 100, "local": 80, "escalated": 10, "probes": 10},
}


def record() -> RunRecord:
    """Confidence 0.05 to 0.95; the device errs on the two least sure, central never; class 1 is the rare one."""
    truth = np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    return RunRecord(
        workload="digits",
        seed=1,
        devices=10,
        queries_per_round=10,
        release="ab" * 32,
        threshold=0.5,
        device_profile="raspberry-pi-4",
        device_model="text",
        price_book=BOOK.version,
        version="0",
        parameters=SimulationConfig(devices=10, rounds=1, queries_per_round=10).parameters(),
        labels=("a", "b"),
        oos_label=None,
        asked=np.array([90, 10]),
        alone_devices=4,
        queries=QueryColumns(
            confidence=np.arange(10) / 10 + 0.05,
            device=np.where(np.arange(10) < 2, 1 - truth, truth),
            central=truth,
            truth=truth,
            local=(np.arange(10) >= 5).astype(np.int64),
            owner=np.full(10, -1),
            alone=np.array([0, 4, 4, 4, 4, 4, 4, 4, 4, 2]),
        ),
        rounds=(LAST,),
    )


PROFILES = load_profiles()
GIVEN = Given(record=record(), book=BOOK, profiles=PROFILES, recorded=PROFILES["raspberry-pi-4"])


def test_the_curve_goes_from_the_device_alone_to_central_alone() -> None:
    points = curve(record())
    assert points.asked.tolist() == [i / 10 for i in range(11)]
    assert points.accuracy.tolist() == [0.8, 0.9, *[1.0] * 9]
    assert [cheapest(points, target) for target in (0.8, 0.85, 0.95, 1.01)] == [0, 1, 2, None]


def test_queries_of_equal_confidence_are_asked_together() -> None:
    columns = replace(record().queries, confidence=np.full(10, 0.5))
    assert curve(replace(record(), queries=columns)).asked.tolist() == [0.0, 1.0]


def test_chows_rule_asks_where_the_expected_error_is_dearer_than_asking() -> None:
    assert worth_asking(np.array([0.8, 0.91]), error_usd=1.0, asking_usd=0.1).tolist() == [True, False]
    assert not worth_asking(np.array([0.0]), error_usd=0.0, asking_usd=0.0).any()


def test_the_optimum_moves_from_asking_nothing_to_asking_what_the_device_gets_wrong() -> None:
    points = curve(record())
    free, dear = (optimum(points, error_usd=error, asking_usd=0.1) for error in (0.0, 100.0))
    assert (free.asked, free.usd) == (0.0, 0.0)
    assert (dear.asked, dear.chow) == (0.2, pytest.approx(0.999))
    assert dear.usd == pytest.approx(0.02)


def test_the_last_points_cost_the_queries_between_two_targets_and_none_is_invented() -> None:
    to_90, to_95, to_99 = steps(curve(record()), asking_usd=0.01)
    assert (to_90.asked_start, to_90.asked_end, to_90.usd_per_1k) == (0.1, 0.1, 0.0)
    assert to_95.usd_per_1k == pytest.approx(1.0)
    assert to_95.usd_per_point == pytest.approx(0.2)
    assert to_99.usd_per_1k == 0.0
    columns = replace(record().queries, central=record().queries.device)
    assert all(step.usd_per_1k is None for step in steps(curve(replace(record(), queries=columns)), asking_usd=0.01))


def test_two_tiers_save_eight_percent_at_five_and_a_twelfth_at_six() -> None:
    assert saved(0.1, 5.0) == pytest.approx(0.08)
    assert saved(0.1, 6.0) == pytest.approx(1 / 12)
    assert saved(0.1, 5.0, wrong=bearable(5.0)) == pytest.approx(0.0)


def test_a_tenth_of_the_price_at_thirty_times_the_volume_trebles_the_cloud_bill() -> None:
    rows = {row[0]: row for row in paradox(GIVEN).rows}
    assert rows["both"][2] == pytest.approx(3 * float(rows["today"][2] or 0))


def test_a_budget_pays_rounds_first_then_idling_and_then_queries() -> None:
    case = Running(queries=1, asked_share=0.5, per_query_usd=0.0, rounds_usd=0.0, standing_usd=0.0, central_usd=0.01)
    assert affordable(case, budget_usd=5.0) == pytest.approx(1000)
    costly = replace(case, standing_usd=1.0)
    assert affordable(costly, standing=True, budget_usd=5.0) == 0.0


def test_the_rarest_tenth_is_the_class_that_was_asked_least() -> None:
    assert rarest(record()).tolist() == [1]
    alone, federated, system, central, local = accuracies(record(), record().queries.truth == 1)
    assert (alone, federated, system, central, local) == (0.25, 0.5, 1.0, 1.0, 0.5)


def test_the_runs_own_device_keeps_its_cost_and_a_device_without_saving_never_breaks_even() -> None:
    own = on_device(GIVEN, GIVEN.profile)
    assert own.marginal_usd == pytest.approx(10 * (20 * 0.00075 + 30 * USD_PER_J + 0.09e-3))
    assert own.work_j == pytest.approx(0.3)
    assert break_even(BOOK, marginal_usd=1.0, standing_usd_per_day=1.0) is None
    assert any("data-centre-gpu" in text for text in accelerators(GIVEN).loses)


def test_three_times_the_devices_energy_moves_its_dollars_and_joules_and_nothing_else() -> None:
    once, thrice, cloud = conclusion(GIVEN), conclusion(GIVEN, device=3.0), conclusion(GIVEN, cloud=3.0)
    assert thrice.marginal_usd - once.marginal_usd == pytest.approx(10 * 2 * 30 * USD_PER_J)
    assert thrice.loaded_usd - once.loaded_usd == pytest.approx(10 * 2 * 1030 * USD_PER_J)
    assert (once.work_j, once.idle_j, once.central_j) == (pytest.approx(0.3), pytest.approx(10.0), pytest.approx(0.2 * 864))
    assert thrice.match == pytest.approx(3 * once.match)
    assert (cloud.loaded_usd, cloud.all_cloud_j) == (once.loaded_usd, pytest.approx(3 * once.all_cloud_j))


def dearer(book: PriceBook, factor: float) -> PriceBook:
    """A book in which everything that costs costs ``factor`` times as much."""
    figures = {
        name: replace(figure, value=figure.value * (1.0 if name == "central_energy_wh_per_query" else factor))
        for name, figure in book.figures.items()
    }
    models = {
        name: replace(
            model,
            input_usd_per_mtok=model.input_usd_per_mtok * factor,
            output_usd_per_mtok=model.output_usd_per_mtok * factor,
        )
        for name, model in book.models.items()
    }
    return replace(book, version=f"x{factor}", figures=figures, models=models)


def test_in_a_book_where_all_costs_twice_as_much_every_scenario_pays_twice_and_concludes_the_same() -> None:
    """Nothing may be left at the prices of the run: shares stay, dollars double, hardware has its own price."""
    twice = replace(GIVEN, book=dearer(BOOK, 2.0))
    ours, theirs = running(GIVEN), running(twice)
    assert theirs.central_usd == 2 * ours.central_usd
    assert theirs.per_query_usd == pytest.approx(2 * ours.per_query_usd) != 0
    assert theirs.rounds_usd == pytest.approx(2 * ours.rounds_usd) != 0
    assert on_device(twice, twice.profile).marginal_usd == pytest.approx(2 * on_device(GIVEN, GIVEN.profile).marginal_usd)
    assert conclusion(twice).marginal_usd == pytest.approx(2 * conclusion(GIVEN).marginal_usd)
    assert conclusion(twice).match == conclusion(GIVEN).match


def test_the_device_that_the_run_was_played_on_may_be_given_other_figures() -> None:
    """Half the idle power and twice the time per inference: half the idle joules, twice those of answering."""
    pi = GIVEN.profile
    changed = {"idle_w": 1.35, "load_w": 5.05, "inference_s": 2 * pi.value("inference_s")}
    figures = {name: replace(figure, value=changed.get(name, figure.value)) for name, figure in pi.figures.items()}
    other = replace(GIVEN, profiles={**PROFILES, pi.name: replace(pi, figures=figures)})
    used = quantities(other, other.profile)
    assert used["device_inference"] == pytest.approx(20.0)
    assert used["device_training"] == pytest.approx(20.0)
    assert used["device_idle"] == pytest.approx(500.0)
    assert used["escalations"] == 10.0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"book": dearer(BOOK, 0.0)}, "an answer of central costs 0"),
        ({"profiles": {"laptop": PROFILES["laptop"]}}, "raspberry-pi-4"),
        ({"book": replace(BOOK, figures={**BOOK.figures, ENERGY: replace(BOOK.figures[ENERGY], value=0.0)})}, ENERGY),
    ],
)
def test_figures_that_nothing_can_be_compared_with_are_refused_in_one_line(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named) as refused:
        ask_all(replace(GIVEN, **changed))
    assert "\n" not in str(refused.value)


def test_every_scenario_has_sources_with_dates_and_finite_json() -> None:
    answers = ask_all(GIVEN)
    content = json.loads(json.dumps(document(GIVEN, answers), allow_nan=False))
    assert len({one["key"] for one in content["scenarios"]}) == len(answers)
    for one in content["scenarios"]:
        assert one["sources"] and all(source["source"] and source["date"] for source in one["sources"])
        assert all(len(row) == len(one["columns"]) for row in one["rows"])


def test_the_page_says_where_the_device_side_loses_and_loads_nothing() -> None:
    answers = ask_all(GIVEN)
    page = render(GIVEN, answers)
    assert "Where the device side loses" in page
    assert "<script" not in page and "http://" not in page
    assert page.count("<figure") == len(answers)


def test_a_record_comes_back_as_it_was_written_and_anything_else_is_refused(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, record())
    again = read_record(tmp_path)
    assert again is not None and again.to_json() == record().to_json()
    text = record().to_json()
    broken = (('"truth": [1', '"truth": [7'), ('"escalations": 10.0', '"escalations": NaN'), ('"local": 80', '"local": -1'))
    kinds = (('"device_idle"', '"device_dreams"'), ('"fallback_rate": 0.1, ', ""), ('"queries": 100', '"queries": 0'))
    for text in ("{}", "[]", '{"format": 9}', *(text.replace(*pair) for pair in (*broken, *kinds))):
        with pytest.raises(InputError):
            RunRecord.from_json(text)
