"""`fedge sim scenarios`: find or play the run, ask every question, write `scenarios.json` and `scenarios.html`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedge.costs import DeviceProfile, PriceBook
from fedge.errors import InputError
from sim.config import SimulationConfig
from sim.days import Observer
from sim.record import RunRecord, read_record
from sim.run import simulate
from sim.scenarios.accelerators import accelerators
from sim.scenarios.base import Given, Scenario
from sim.scenarios.energy import energy
from sim.scenarios.error_price import error_price
from sim.scenarios.last_points import last_points
from sim.scenarios.long_tail import long_tail
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


def ask_all(given: Given) -> list[Scenario]:
    """Every scenario that needs no run of its own."""
    if given.record.device_profile not in given.profiles:
        raise InputError(f"the run's device {given.record.device_profile!r} is not among the profiles")
    return [ask(given) for ask in RECORDED]


def document(
    record: RunRecord, book: PriceBook, profiles: Mapping[str, DeviceProfile], scenarios: Sequence[Scenario]
) -> Any:
    """The content of `scenarios.json`."""
    run = {
        name: getattr(record, name) for name in ("workload", "seed", "devices", "queries_per_round", "release", "version")
    }
    return {
        "run": {
            **run,
            "rounds": len(record.rounds),
            "threshold": record.threshold,
            "test_queries": len(record.queries.truth),
        },
        "price_book": book.version,
        "profiles": sorted(profiles),
        "scenarios": [scenario.to_dict() for scenario in scenarios],
    }


def write(out: Path, content: Any, page: str) -> None:
    """Write both files into ``out``."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "scenarios.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (out / "scenarios.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from None


__all__ = ["ask_all", "document", "recorded_run", "render", "write"]
