"""The accountant against published values and bounds, and what is said of a run's privacy."""

import math

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from aggregator.rounds.privacy import epsilon_of, noise_to_signal, privacy_report, session_rho
from fedge.secagg import SessionConfig, threshold


def config(multiplier: float, *, n: int = 64, reals: int = 1_000_000, n_min: int | None = None) -> SessionConfig:
    return SessionConfig(
        reals=reals,
        integers=0,
        bits=32,
        cohort_max=n,
        scale=1.0,
        clip_norm=1.0,
        weight_cap=1,
        n_min=n_min or threshold(n),
        deadline=1.0,
        noise_multiplier=multiplier,
    )


def exact_gaussian_epsilon(multiplier: float, delta: float) -> float:
    """The Gaussian mechanism's exact epsilon (Balle and Wang 2018, Theorem 8): no accountant of it may claim less."""

    def excess(epsilon: float) -> float:
        above = norm.cdf(1 / (2 * multiplier) - epsilon * multiplier)
        below = norm.cdf(-1 / (2 * multiplier) - epsilon * multiplier)
        return float(above - math.exp(epsilon) * below - delta)

    return float(brentq(excess, 0.0, 100.0))


def test_a_published_conversion_is_met() -> None:
    # OpenDP's test of its conversion from zCDP (Canonne, Kamath, Steinke 2020): rho = 1/32 at delta = 1e-3.
    assert epsilon_of(1 / 32, 1e-3) == pytest.approx(0.6880024554878086, rel=0.01)


def test_the_census_of_2020_is_met() -> None:
    # Persons of the redistricting data: rho = 2.56 at delta = 1e-10 was published as epsilon 17.14.
    assert epsilon_of(2.56, 1e-10) == pytest.approx(17.14, rel=0.005)


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("delta", [1e-6, 1e-5])
def test_epsilon_lies_between_the_exact_value_and_the_first_bound_that_was_proved(multiplier: float, delta: float) -> None:
    rho = 1 / (2 * multiplier**2)
    first = rho + 2 * math.sqrt(rho * math.log(1 / delta))  # Bun and Steinke 2016, Proposition 1.3
    assert exact_gaussian_epsilon(multiplier, delta) <= epsilon_of(rho, delta) <= first


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 3.0])
def test_one_sum_spends_what_its_multiplier_says(multiplier: float) -> None:
    assert session_rho(config(multiplier, reals=5_000)) == pytest.approx(1 / (2 * multiplier**2))


def test_little_noise_on_each_device_costs_the_term_for_the_sum() -> None:
    few = SessionConfig(
        reals=100_000,
        integers=0,
        bits=16,
        cohort_max=128,
        scale=1.0,
        clip_norm=1.0,
        weight_cap=1,
        n_min=128,
        deadline=1.0,
        noise_multiplier=0.05,
    )
    assert few.noise_sigma < 2.0
    assert session_rho(few) > 1 / (2 * 0.05**2)


def test_nothing_is_spent_without_a_sum_and_more_with_each() -> None:
    spent = [epsilon_of(rounds * 0.02, 1e-5) for rounds in range(4)]
    assert spent[0] == 0.0 and spent == sorted(spent) and len(set(spent)) == 4


def test_the_noise_to_signal_ratio_is_that_of_the_definition() -> None:
    # Z sqrt(d) / n is 156 at 64 devices, a million values and Z = 10; more, since colluders take noise away.
    shape = config(10.0)
    expected = 10.0 * 1_000 / 64 * math.sqrt(64 / shape.honest)
    assert noise_to_signal(shape, 64) == pytest.approx(expected, rel=0.1)


def said(**changes: object) -> str:
    values = {"multiplier": 1.0, "rho": 0.1, "delta": 1e-6, "ratio": 3.0, "devices": 1_000, "sums_are_secret": True}
    report = privacy_report(**{**values, **changes})  # type: ignore[arg-type]
    assert report.supported == report.verdict.startswith("private")
    return report.verdict


def test_the_word_private_is_there_where_the_parameters_support_it() -> None:
    assert said().startswith("private: the released models are (2.14, 1e-06)-differentially private")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rho": 5.0}, "is above 10"),
        ({"devices": 2_000_000}, "delta 1e-06 is above one in 2000000 devices"),
        ({"sums_are_secret": False}, "could see single updates"),
    ],
)
def test_the_word_private_is_refused_where_they_do_not(changes: dict[str, object], why: str) -> None:
    verdict = said(**changes)
    assert verdict.startswith("not private") and why in verdict
