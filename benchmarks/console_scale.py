"""Every page of the console and its JSON twin over a large fleet: median milliseconds, on SQLite and on PostgreSQL.

    python -m benchmarks.console_scale [--sqlite] [--postgres] [--json] [--devices N] [--rounds N] [--ledger-rows N]

Twice each: while nothing else happens, and while another process forgets the ledger's old rows, as the rounds process does.
The pages are taken from the application's own routes; a real console answers over loopback. Ends with exit code 1 where a
median is above 300 ms.
"""

import argparse
import http.client
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from aggregator.admin import Operator
from aggregator.console.app import OPEN, ROUTERS, create_app
from aggregator.settings import ServerHome
from aggregator.store import Database
from benchmarks.console_fleet import Say, Size, device_id, fill, make_home, release_id
from benchmarks.console_forgetting import forgetting, stored_bytes
from benchmarks.postgres import local_postgres
from benchmarks.results import Result, document
from fedge.errors import InputError

LIMIT_MS = 300.0
ENDLESS = frozenset({"/api/v1/events/stream"})
ABOUT = {"federation": "scale", "workload": "home", "secagg": True, "n_min": 11, "period_s": 3600.0}


def pages(size: Size) -> list[str]:
    """Every path that a viewer may GET, with an existing round, device and release in it."""
    filled = {
        "{number}": str(max(1, size.rounds // 2)),
        "{device}": device_id(size.devices // 2),
        "{release}": release_id(max(1, size.rounds // 2)),
    }
    found = set()
    for router in ROUTERS:
        for route in router.routes:
            path = str(getattr(route, "path", ""))
            if router in OPEN or path in ENDLESS or "GET" not in (getattr(route, "methods", None) or ()):
                continue
            for name, value in filled.items():
                path = path.replace(name, value)
            if "{" in path:
                raise InputError(f"the page {path} has a part that this benchmark does not know: give it a value in pages()")
            found.add(path)
    return sorted(found)


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """A real server on loopback; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def measure(port: int, paths: list[str], repetitions: int) -> dict[str, float]:
    """Median milliseconds of each page, from request to the last byte; one look before counts for nothing."""
    medians = {}
    for path in paths:
        times = []
        for _ in range(repetitions + 1):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            begun = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            times.append(1000.0 * (time.perf_counter() - begun))
            connection.close()
            if answer.status != 200:
                raise InputError(f"{path} answers {answer.status} instead of 200")
        medians[path] = statistics.median(times[1:])
    return medians


def measured(name: str, size: Size, repetitions: int, say: Say, *, now: float) -> list[Result]:
    """One database, from empty to measured, slowest page first."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedge-scale-")))
        home = ServerHome(folder / "home")
        url = home.database_url if name == "sqlite" else stack.enter_context(local_postgres())
        keys = make_home(home, size, now=now, say=say)
        operator = Operator(home)
        fill(url, size, keys, operator.registry(), now=now, say=say)
        database = stack.enter_context(Database.open(url))
        app = create_app(database, federation=ABOUT, operator=operator)
        port = stack.enter_context(serving(app))
        found = {False: measure(port, pages(size), repetitions)}
        say("every page is measured")
        with forgetting(url) as gone:
            found[True] = measure(port, pages(size), repetitions)
        say(f"every page is measured again; {gone.count} rows of the ledger went, {gone.count / gone.seconds:.0f} a second")
        say(f"{stored_bytes(url) / 1e9:.2f} GB")
    case = {"database": name, "devices": size.devices, "rounds": size.rounds, "ledger_rows": size.ledger_rows}
    return [
        Result(
            bench="console_scale",
            case={**case, "page": path, "forgetting": is_forgetting},
            unit="ms",
            ours=median,
            peers={},
            repetitions=repetitions,
        )
        for is_forgetting, medians in found.items()
        for path, median in sorted(medians.items(), key=lambda one: -one[1])
    ]


def table(results: list[Result]) -> str:
    """For people."""
    lines = []
    for one in results:
        mark = f"  above {LIMIT_MS:.0f} ms" if one.ours > LIMIT_MS else ""
        state = "  while rows are forgotten" if one.case["forgetting"] else ""
        lines.append(f"{one.case['database']:10} {one.ours:8.1f} ms  {one.case['page']}{state}{mark}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.console_scale", description="The console over a large fleet."
    )
    parser.add_argument("--sqlite", action="store_true", help="measure SQLite; both databases where neither is named")
    parser.add_argument("--postgres", action="store_true", help="measure a PostgreSQL of its own")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--devices", type=int, default=Size().devices)
    parser.add_argument("--rounds", type=int, default=Size().rounds)
    parser.add_argument("--ledger-rows", type=int, default=Size().ledger_rows)
    parser.add_argument("--repetitions", type=int, default=9)
    given = parser.parse_args(arguments)
    size = Size(devices=given.devices, rounds=given.rounds, ledger_rows=given.ledger_rows)
    both = given.sqlite == given.postgres
    results = []
    for name in ("sqlite", "postgres"):
        if both or getattr(given, name):
            begun = time.monotonic()

            def say(text: str, name: str = name, begun: float = begun) -> None:
                print(f"{name} {time.monotonic() - begun:6.1f} s  {text}", file=sys.stderr, flush=True)

            results += measured(name, size, given.repetitions, say, now=time.time())
    print(json.dumps(document(results), indent=2) if given.json else table(results))
    return int(any(one.ours > LIMIT_MS for one in results))


if __name__ == "__main__":
    sys.exit(main())
