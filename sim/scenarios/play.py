"""`fedge sim scenarios`: find or play the run, ask every question, write `scenarios.json` and `scenarios.html`."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedge.costs import PriceBook, load_profiles, profiles_from_toml
from fedge.errors import InputError
from sim.config import SimulationConfig
from sim.days import Observer
from sim.preparation import prepare
from sim.record import RunRecord, read_record
from sim.run import simulate
from sim.scenarios.accelerators import accelerators
from sim.scenarios.arrival import play_new_intent
from sim.scenarios.base import Given, Scenario
from sim.scenarios.energy import energy
from sim.scenarios.error_price import error_price
from sim.scenarios.last_points import last_points
from sim.scenarios.long_tail import long_tail
from sim.scenarios.model_replaced import model_replaced
from sim.scenarios.new_base import play_model_replaced
from sim.scenarios.new_intent import new_intent
from sim.scenarios.own_runs import Observe, OwnRuns
from sim.scenarios.page import render
from sim.scenarios.paradox import paradox
from sim.scenarios.subsidy import subsidy
from sim.scenarios.two_tier import two_tier

RECORDED: tuple[Callable[[Given], Scenario], ...] = (
    subsidy,
    paradox,
    last_points,
    error_price,
    two_tier,
    long_tail,
    accelerators,
    energy,
)
"""Scenarios over the record alone."""


def recorded_run(config: SimulationConfig, *, observer: Observer) -> RunRecord:
    """The record in ``config.out``, or that of a run played there now. Raises InputError for one of another workload."""
    record = read_record(config.out)
    if record is None:
        simulate(config, observer=observer)
        record = read_record(config.out)
    if record is None or record.workload != config.workload:
        found = "no record" if record is None else f"a run of {record.workload}"
        raise InputError(f"{config.out} holds {found}, not of {config.workload}: give its --workload, or another --run")
    return record


def given(record: RunRecord, book: PriceBook, *, profiles: str | None = None) -> Given:
    """The record with prices and device profiles: ``profiles`` as TOML, or those that ship. Raises InputError."""
    shipped = load_profiles(record.device_model)
    if record.device_profile not in shipped:
        raise InputError(f"the recorded run's device {record.device_profile!r} is unknown here: play the run again")
    chosen = shipped if profiles is None else profiles_from_toml(profiles, model=record.device_model)
    return Given(record=record, book=book, profiles=chosen, recorded=shipped[record.device_profile])


def ask_all(given: Given) -> list[Scenario]:
    """Every scenario that needs no run of its own."""
    check(given)
    return [ask(given) for ask in RECORDED]


def check(given: Given) -> None:
    """Raises InputError for figures that nothing can be compared with."""
    device, book = given.record.device_profile, given.book
    if device not in given.profiles:
        raise InputError(f"the run's device {device!r} is not among the profiles ({', '.join(given.profiles)}): add it")
    if book.central_price_usd <= 0:
        raise InputError(
            f"price book {book.version}: an answer of central costs 0, and every scenario compares with that; give the "
            f"model {book.central_model!r} and its tokens a price above 0"
        )
    if book.central_energy_j_per_query <= 0:
        raise InputError(f"price book {book.version}: figures.central_energy_wh_per_query must be above 0 for scenarios")


def play_own(given: Given, config: SimulationConfig, *, observe: Observe, days: int) -> list[Scenario]:
    """The scenarios that need runs of their own; ``config``: the recorded run's parameters, ``days``: of a new intent."""
    check(given)
    with tempfile.TemporaryDirectory(prefix="fedge-scenarios-") as scratch:
        folder = Path(scratch)
        with observe("Data and models for the runs that scenarios play themselves", config) as observer:
            preparation = prepare(config, stage=observer.stage)
        intents, bases = (
            OwnRuns(config=replace(config, out=folder / name), preparation=preparation, observe=observe)
            for name in ("new_intent", "model_replaced")
        )
        return [
            new_intent(given, play_new_intent(given.record, intents, days=days)),
            model_replaced(given, play_model_replaced(bases)),
        ]


def document(given: Given, scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """The content of `scenarios.json`."""
    record = given.record
    names = ("workload", "seed", "devices", "queries_per_round", "release", "version", "price_book", "device_profile")
    run = {name: getattr(record, name) for name in names}
    return {
        "run": {
            **run,
            "rounds": len(record.rounds),
            "threshold": record.threshold,
            "test_queries": len(record.queries.truth),
        },
        "price_book": given.book.version,
        "profiles": {name: profile.version for name, profile in sorted(given.profiles.items())},
        "scenarios": [scenario.to_dict() for scenario in scenarios],
    }


def make_folder(out: Path) -> None:
    """Before anything is played: where nothing can be written, nothing need be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made: {error.strerror}") from None


def write(out: Path, content: Any, page: str) -> None:
    """Write both files into ``out``."""
    try:
        (out / "scenarios.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (out / "scenarios.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from None


__all__ = ["ask_all", "document", "given", "make_folder", "play_own", "recorded_run", "render", "write"]
