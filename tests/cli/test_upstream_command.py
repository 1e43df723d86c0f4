"""`fedge server upstream` against a real HTTP server that plays the endpoint."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from aggregator.upstream_figures import UpstreamFigures
from aggregator.workbench.model_store import FORMAT
from cli.main import app
from fedge.errors import InputError


@pytest.fixture
def replies() -> list[str]:
    return ['{"label": "lamp"}']


@pytest.fixture
def url(replies: list[str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            message = {"role": "assistant", "content": replies.pop(0)}
            said: dict[str, Any] = {
                "choices": [{"message": message}],
                "usage": {"prompt_tokens": 80, "completion_tokens": 6},
            }
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


def server_folder(folder: Path, settings: str) -> Path:
    """What the command reads of a server: its settings and the facts of its workload."""
    (folder / "models").mkdir()
    facts = {"format": FORMAT, "name": "csv", "labels": ["heat", "lamp"], "oos_label": None, "topics": {}, "data_sha256": ""}
    (folder / "models" / "workload.json").write_text(json.dumps({**facts, "note": "", "queries_per_round": 1, "pixels": 0}))
    (folder / "server.toml").write_text(settings)
    return folder


def run(folder: Path, *flags: str) -> Any:
    return CliRunner().invoke(app, ["server", "upstream", "--home", str(folder), *flags])


def test_a_check_shows_what_came_back_its_tokens_price_and_time(tmp_path: Path, url: str, replies: list[str]) -> None:
    folder = server_folder(tmp_path, f'[upstream]\nurl = "{url}"\nmodel = "m"\nprice = "frontier"\n')
    result = run(folder, "--check", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found.pop("seconds") > 0
    assert found == {
        "outcome": "answered", "label": "lamp", "probability": None, "model": "m", "tokens_in": 80, "tokens_out": 6,
        "tokens_estimated": False, "usd": pytest.approx(80 * 5e-6 + 6 * 30e-6), "price_book": "2026-08",
    }  # fmt: skip
    replies.append("the lamp")
    result = run(folder, "--check")
    assert result.exit_code == 1 and "unknown_label" in result.output
    assert not (folder / "upstream.json").exists()


def test_figures_are_shown_as_they_are_written(tmp_path: Path) -> None:
    folder = server_folder(tmp_path, "")
    UpstreamFigures().plus("timeout", {"in/estimated": 7}, 0.5, at=0.0).write(folder / "upstream.json")
    found = json.loads(run(folder, "--json").output)
    assert (found["usd"], found["usd_today"], found["outcomes"], found["url"]) == (0.5, 0.0, {"timeout": 1}, None)


def test_a_check_where_it_is_off_is_one_line(tmp_path: Path) -> None:
    result = run(server_folder(tmp_path, ""), "--check")
    assert isinstance(result.exception, InputError) and "upstream is off" in str(result.exception)
