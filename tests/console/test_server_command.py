"""`fedge server console` as a process: it serves on loopback, shows new rounds, and refuses what it must in one line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.store import Database


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "server", "console", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )


def refusal(*arguments: str | Path) -> str:
    process = start(*arguments)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and len(said.splitlines()) == 1 and said.startswith("fedge: "), said
    return said


def fetch(url: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        return str(answer.read().decode())


def test_it_serves_what_the_aggregator_writes_until_it_is_interrupted(
    tmp_path: Path, database: Database, record_rounds: Callable[[int], None]
) -> None:
    process = start("--run", tmp_path, "--port", "0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert address is not None, line
        assert json.loads(fetch(f"{address[0]}/healthz")) == {"status": "ok"}
        assert "No round is recorded yet" in fetch(address[0])
        record_rounds(1)
        assert [entry["round"] for entry in json.loads(fetch(f"{address[0]}/api/v1/rounds"))] == [1]
        assert "11 of 12" in fetch(address[0])
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, "")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("host", ["0.0.0.0", "console.example"])
def test_an_address_that_others_can_reach_is_refused(tmp_path: Path, host: str) -> None:
    said = refusal("--run", tmp_path, "--host", host)
    assert f"--host {host}" in said and "login" in said


def test_a_taken_port_is_one_line(tmp_path: Path, database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}" in refusal("--run", tmp_path, "--port", str(port))


def test_a_folder_without_a_run_is_one_line_and_stays_without(tmp_path: Path) -> None:
    assert "aggregator.sqlite" in refusal("--run", tmp_path)
    assert not list(tmp_path.iterdir())
