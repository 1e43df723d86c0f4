"""`fedge bench inference`: a local answer inside the agent and over its HTTP API, beside the bare model on the same queries.

The agent over HTTP is a real process (`fedge device run`) with a database on disk; the client keeps one connection. Queries
are the `home` workload's, the model is a 1 MB int8 embedding bag. Figures are medians of wall time; trust the ratios.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from aggregator.workbench.workloads import load_workload
from benchmarks.local_device import Fleet, model_of
from benchmarks.results import Result
from edge_client.agent_file import RunningAgent
from edge_client.daemon import AgentProcess
from edge_client.inference.query import opinions
from edge_client.settings import DeviceHome
from fedge.randomness import root_seed

QUERIES = 2000
NOBODY = "localhost:1"
START_S = 60.0


def benchmark(*, stage: Callable[[str], None], queries: int = QUERIES) -> list[Result]:
    """All cases; ``stage`` is told what runs now."""
    with tempfile.TemporaryDirectory(prefix="fedge-bench-") as name:
        stage("making a device and its queries")
        asked = home_queries(queries)
        home = joined(Path(name))
        stage("a local answer inside the agent")
        inside = agent_case(home, asked)
        stage("a local answer over HTTP, and the memory of the process")
        return [inside, *http_cases(home, asked)]


def home_queries(count: int) -> list[str]:
    """Texts of the `home` workload, again from the start where there are fewer."""
    workload = load_workload("home", seed=root_seed(1), data_file=None, devices=2)
    texts = [str(query) for query in workload.test.queries]
    return [texts[i % len(texts)] for i in range(count)]


def joined(folder: Path, *, central: str = NOBODY, threshold: float | None = 0.01) -> DeviceHome:
    """A device with an installed release, serving only."""
    now = time.time()
    fleet = Fleet.make(folder / "fleet")
    home = DeviceHome(folder / "home")
    fleet.join(home, central=central, now=now, settings=["[api]", "port = 0", "[node]", 'mode = "off"'])
    fleet.install(home, fleet.make_release(), threshold=threshold, now=now)
    return home


def agent_case(home: DeviceHome, queries: Sequence[str]) -> Result:
    """`Agent.ask` in this process, the model alone beside it, in turns of a hundred."""
    process = AgentProcess(home)
    try:
        process.releases.restore()
        agent, active = process.agent, process.releases.active
        assert active is not None
        loaded = active.loaded
        ours: list[float] = []
        model: list[float] = []
        for start in range(0, len(queries), 100):
            part = queries[start : start + 100]
            ours += [timed(partial(agent.ask, query)) for query in part]
            model += [timed(partial(opinions, loaded, [query])) for query in part]
    finally:
        process.close()
    warm = len(queries) // 10
    return Result(
        bench="inference.local_path",
        case={"layer": "agent", "model_mb": round(model_of(loaded.release) / 2**20, 2), "queries": len(queries)},
        unit="ms",
        ours=1000 * statistics.median(ours[warm:]),
        peers={"model": 1000 * statistics.median(model[warm:])},
        repetitions=len(ours[warm:]),
        labels={"model": "features, onnxruntime and confidence, nothing kept"},
        detail={"p10": 1000 * quantile(ours[warm:], 0.1), "p99": 1000 * quantile(ours[warm:], 0.99)},
    )


def http_cases(home: DeviceHome, queries: Sequence[str]) -> list[Result]:
    """`POST /v1/ask` of a process of its own, beside the time that the same answers took inside it; and its memory."""
    with agent_process(home) as running:
        parts = urlsplit(running.url)
        assert parts.hostname is not None
        connection = HTTPConnection(parts.hostname, parts.port)
        over, inside = [], []
        for query in queries:
            body = json.dumps({"query": query})
            started = time.perf_counter()
            connection.request("POST", "/v1/ask", body, {"content-type": "application/json"})
            answer = json.loads(connection.getresponse().read())
            over.append(1000 * (time.perf_counter() - started))
            inside.append(float(answer["latency_ms"]))
            assert answer["answered_by"] == "device"
        connection.close()
        resident = resident_mb(running.pid)
    warm = len(queries) // 10
    return [
        Result(
            bench="inference.local_path",
            case={"layer": "http", "queries": len(queries)},
            unit="ms",
            ours=statistics.median(over[warm:]),
            peers={"inside": statistics.median(inside[warm:])},
            repetitions=len(over[warm:]),
            detail={"p10": quantile(over[warm:], 0.1), "p99": quantile(over[warm:], 0.99)},
        ),
        Result(
            bench="inference.memory",
            case={"node": "off", "queries": len(queries)},
            unit="MB resident",
            ours=resident,
            peers={},
            repetitions=1,
        ),
    ]


@contextmanager
def agent_process(home: DeviceHome) -> Iterator[RunningAgent]:
    """`fedge device run` in a process of its own."""
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "device", "run", "--home", str(home.folder)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + START_S
        while (running := RunningAgent.of(home)) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the agent did not start")
            time.sleep(0.05)
        yield running
    finally:
        process.terminate()
        process.wait()


def resident_mb(pid: int) -> float:
    """What the kernel says; 0 where it does not say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
