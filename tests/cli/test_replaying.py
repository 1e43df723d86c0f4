"""A replay that is interrupted: what was asked is remembered. The agent is an HTTP server that answers every query alike."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aggregator.workbench.workloads import load_workload
from cli.replaying import Replay, Tally, Target
from fedge.randomness import root_seed


@contextmanager
def agent(asked: list[str]) -> Iterator[str]:
    """The address of a local API that keeps what it is asked."""

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["query"])
            answer = {"answered_by": "local", "reason": "sure", "degraded": False, "usd": 0.0, "latency_ms": 1.0}
            body = json.dumps({"id": len(asked), "answer": "nothing", **answer}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_an_interrupted_replay_goes_on_with_the_next_query(tmp_path: Path) -> None:
    asked: list[str] = []
    with agent(asked) as url:

        def replay(queries: int) -> Replay:
            targets = [Target("device-1", url)]
            return Replay(
                workload=workload, targets=targets, seed=1, queries=queries, rate=0.0, corrections=0.0, positions=positions
            )

        def interrupt(tally: Tally) -> None:
            if tally.queries:
                raise KeyboardInterrupt

        workload, positions = load_workload("home", seed=root_seed(1)), tmp_path / "all.json"
        replay(100).run(watch_every_s=0.01)
        whole = list(asked)
        asked.clear()
        positions = tmp_path / "parts.json"
        with pytest.raises(KeyboardInterrupt):
            replay(5_000).run(watch=interrupt, watch_every_s=0.0)
        first = len(asked)
        assert 0 < first < 5_000 and json.loads(positions.read_text()) == {"device-1": first}
        replay(20).run(watch_every_s=0.01)
    assert json.loads(positions.read_text()) == {"device-1": first + 20}
    assert asked[:100] == whole[: len(asked)]
