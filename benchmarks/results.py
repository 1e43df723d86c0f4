"""What a benchmark prints: the machine, and for each case our median beside our peers', measured in one process."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One case of one benchmark. ``ours`` and ``peers`` are medians in ``unit``; ``labels`` say how a peer was measured."""

    bench: str
    case: dict[str, Any]
    unit: str
    ours: float
    peers: dict[str, float]
    repetitions: int
    labels: dict[str, str] = field(default_factory=dict)
    detail: dict[str, float] = field(default_factory=dict)


def document(results: list[Result]) -> dict[str, Any]:
    """The JSON of a run of benchmarks."""
    return {"machine": machine(), "results": [asdict(result) for result in results]}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "cryptography": version("cryptography"),
    }


def cpu_median(run: Callable[[], object], repetitions: int) -> float:
    """Median CPU seconds of this process for one call of ``run``."""
    return _median(run, repetitions, time.process_time)


def wall_median(run: Callable[[], object], repetitions: int) -> float:
    """Median wall seconds of one call of ``run``."""
    return _median(run, repetitions, time.perf_counter)


def _median(run: Callable[[], object], repetitions: int, clock: Callable[[], float]) -> float:
    times = []
    for _ in range(repetitions):
        started = clock()
        run()
        times.append(clock() - started)
    return statistics.median(times)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # there on Linux
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
