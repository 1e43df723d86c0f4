"""Simulated users: each of an agent's queries in its order, at a pace, and a correction of some of the wrong answers.

Only the users are simulated: agents are asked over their real local API. Where a replay ends is remembered, so that the
next one asks what comes then, as if the days went on.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aggregator.workbench.workloads import Drawn, QueryStream, Workload, partition
from fedge.errors import FedgeError, InputError
from fedge.randomness import derive, generator, root_seed

# How unevenly topics are spread over agents where the data has no users of its own (Dirichlet).
ALPHA = 0.3
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """One agent: the device's name and the address of its local API."""

    device_id: str
    url: str


@dataclass(slots=True)
class Tally:
    """What came back. ``right``: answers that are the label which the data gives the query. Latencies as agents say."""

    answered_by: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    queries: int = 0
    right: int = 0
    degraded: int = 0
    corrections: int = 0
    failed: int = 0
    usd: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, answer: Mapping[str, Any], *, right: bool) -> None:
        """Count one answer."""
        self.queries += 1
        self.answered_by[str(answer["answered_by"])] += 1
        self.reasons[str(answer["reason"])] += 1
        self.right += right
        self.degraded += bool(answer["degraded"])
        self.usd += float(answer["usd"])
        self.latencies_ms.append(float(answer["latency_ms"]))

    def to_mapping(self) -> dict[str, Any]:
        """JSON-ready."""
        ordered = sorted(self.latencies_ms)
        return {
            "queries": self.queries,
            "answered_by": dict(self.answered_by),
            "reasons": dict(self.reasons),
            "right": self.right,
            "degraded": self.degraded,
            "corrections": self.corrections,
            "failed": self.failed,
            "usd": self.usd,
            "latency_ms_p50": ordered[len(ordered) // 2] if ordered else None,
            "users": "simulated",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One replay. ``queries``: in all; ``rate``: a second in all, 0 for no limit; ``positions``: file of what was asked so
    far.
    """

    workload: Workload
    targets: Sequence[Target]
    seed: int
    queries: int
    rate: float
    corrections: float
    positions: Path

    def run(self, *, watch: Callable[[Tally], None] = lambda tally: None, watch_every_s: float = 0.25) -> Tally:
        """Ask all of it, and tell ``watch`` now and then. Raises FedgeError where an agent refuses or goes away.

        What was asked is remembered however it ends, so that the next replay goes on from there.
        """
        tally, lock, stopped = Tally(), threading.Lock(), threading.Event()
        asked = _read(self.positions)
        shares = _shares(self.queries, len(self.targets))
        done: Counter[str] = Counter()
        try:
            with ThreadPoolExecutor(len(self.targets), thread_name_prefix="user") as users:
                waiting = [
                    users.submit(self._use, target, list(drawn), tally, done, lock, stopped)
                    for target, drawn in zip(self.targets, self._traffic(asked, shares), strict=True)
                ]
                try:
                    while not all(one.done() for one in waiting):
                        time.sleep(watch_every_s)
                        watch(tally)
                finally:
                    stopped.set()
            for one in waiting:
                one.result()
        finally:
            _write(self.positions, {**asked, **{name: asked.get(name, 0) + count for name, count in done.items()}})
        watch(tally)
        return tally

    def _traffic(self, asked: Mapping[str, int], shares: Sequence[int]) -> Iterator[list[Drawn]]:
        seed = derive(root_seed(self.seed), "replay")
        pools = partition(self.workload, len(self.targets), alpha=ALPHA, seed=seed)
        for number, (target, pool, share) in enumerate(zip(self.targets, pools, shares, strict=True)):
            start = asked.get(target.device_id, 0)
            yield QueryStream(self.workload, pool, derive(seed, "stream"), number).slice(start, start + share)

    def _use(
        self,
        target: Target,
        drawn: Sequence[Drawn],
        tally: Tally,
        done: Counter[str],
        lock: threading.Lock,
        stopped: threading.Event,
    ) -> None:
        """One agent's users."""
        coins = generator(root_seed(self.seed), "corrections", target.device_id, time.time_ns()).random(len(drawn))
        pause = len(self.targets) / self.rate if self.rate else 0.0
        begun = time.monotonic()
        with closing(_Api(target)) as api:
            for number, (one, coin) in enumerate(zip(drawn, coins, strict=True)):
                if stopped.wait(max(0.0, begun + number * pause - time.monotonic())):
                    return
                query = one.query if isinstance(one.query, str) else [float(value) for value in one.query]
                answer = api.post("/v1/ask", {"query": query})
                truth = self.workload.labels[one.label]
                right = answer["answer"] == truth
                corrects = bool(not right and coin < self.corrections)
                if corrects:
                    api.post(f"/v1/answers/{answer['id']}/correction", {"label": truth})
                with lock:
                    tally.add(answer, right=right)
                    tally.corrections += corrects
                    done[target.device_id] += 1


class _Api:
    """One kept connection to a local API."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._target = target
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)

    def post(self, path: str, body: object) -> dict[str, Any]:
        """The JSON answer. Raises FedgeError."""
        try:
            self._connection.request("POST", path, json.dumps(body).encode(), {"content-type": "application/json"})
            response = self._connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            raise FedgeError(f"the agent of {self._target.device_id} at {self._target.url} is gone: {error}") from None
        if not isinstance(answer, dict) or "error" in answer:
            said = answer.get("error") if isinstance(answer, dict) else answer
            line = said.get("message") if isinstance(said, dict) else said
            raise FedgeError(f"the agent of {self._target.device_id} refuses {path}: {line}")
        return answer

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


def _shares(queries: int, agents: int) -> list[int]:
    return [queries // agents + (number < queries % agents) for number in range(agents)]


def _read(path: Path) -> dict[str, int]:
    try:
        return {str(name): int(count) for name, count in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}): delete it, and the replay begins anew") from None


def _write(path: Path, positions: Mapping[str, int]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(json.dumps(positions), encoding="utf-8")
