"""The whole system as a person starts it: real processes, real mutual TLS, a real round, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from fedge.settings_text import with_values

PATIENCE_S = 180.0
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def fedge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=ENVIRONMENT)


def told(*arguments: str | Path) -> Any:
    """The JSON that a command prints."""
    result = fedge(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def eventually(what: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.2)
    return found


def read(url: str) -> Any:
    with urlopen(url, timeout=30) as response:
        return json.loads(response.read())


def processes_of(home: Path) -> list[int]:
    """Living processes whose command line names the home."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes()
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(home).encode() in command and state not in "ZX" and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server that was set up for workload home; what is started in it is ended."""
    folder = tmp_path_factory.mktemp("fedge")
    made = told("server", "init", "--home", folder)["made"]
    assert {"settings", "models", "first release", "enrolment authority", "TUF keys"} <= set(made)
    yield folder
    fedge("down", "--home", folder)
    assert processes_of(folder) == []


def change(home: Path, **values: object) -> None:
    """As a person with an editor would."""
    file = home / "server" / "server.toml"
    file.write_text(with_values(file.read_text(), values))


def private_files(home: Path) -> dict[Path, bytes]:
    keys = [path for path in (home / "server").rglob("*") if path.suffix in (".pem", ".key")]
    return {path: path.read_bytes() for path in keys}


def test_a_second_init_keeps_every_key_and_says_so(home: Path) -> None:
    before = private_files(home)
    assert len(before) >= 8 and all(path.stat().st_mode & 0o077 == 0 for path in before)
    again = told("server", "init", "--home", home)
    assert again["made"] == [] and "enrolment authority" in again["kept"]
    assert private_files(home) == before
    other = fedge("server", "init", "--home", home, "--workload", "digits")
    assert other.returncode == 1 and "was set up for workload home" in other.stderr


def test_a_part_says_one_line_when_it_serves_and_ends_cleanly(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        change(home, console_port=free.getsockname()[1])
    command = [sys.executable, "-m", "cli.main", "server", "run", "console", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("console is ready: http://127.0.0.1:")
        taken = fedge("server", "run", "console", "--home", home)
        assert taken.returncode == 1 and taken.stderr.count("\n") == 1 and "cannot listen on" in taken.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_part_that_fails_takes_the_others_with_it_and_says_why(home: Path) -> None:
    model, key = home / "server" / "models" / "strong" / "model.json", home / "server" / "authority" / "identity.pem"
    good = model.read_bytes()
    try:
        model.write_bytes(b"[]")
        failed = fedge("up", "--devices", "2", "--home", home)
        key.chmod(0o644)
        everything = fedge("server", "run", "all", "--home", home)
    finally:
        model.write_bytes(good)
        key.chmod(0o600)
    assert failed.returncode == 1
    assert "fedge: central ended with exit code 1" in failed.stderr and "holds no JSON object" in failed.stderr
    assert everything.returncode == 1 and "fedge: door ended by itself (exit code 1)" in everything.stderr
    assert processes_of(home) == []


def test_the_whole_system_comes_up_learns_and_goes(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        change(home, console_port=port)
        policy = home / "policy.toml"
        policy.write_text('[labels.door_unlock]\nrule = "human"\n[budget]\ndaily_usd = 5.0\n')
        up = told("up", "--devices", "4", "--home", home, "--policy", policy)
    assert up["secagg"] == "demo" and len(up["addresses"]["agents"]) == 4
    assert not up["addresses"]["console"].endswith(f":{port}/"), "a busy port is left to whoever has it"

    twice = fedge("up", "--home", home)
    assert twice.returncode == 1 and "runs already" in twice.stderr.splitlines()[-1]

    console = up["addresses"]["console"]
    assert read(f"{console}api/v1/federation")["secagg"] == "demo"
    with urlopen(console, timeout=30) as page:
        assert b"these sums are not private" in page.read()
    assert [device["state"] for device in told("devices", "list", "--home", home)] == ["member"] * 4

    answer = told("ask", "turn off the lights in the kitchen", "--home", home)
    assert answer["answered_by"] == "central" and answer["answer"] == "light_off" and answer["usd"] > 0
    first = answer["release"]
    for url in up["addresses"]["agents"].values():
        health = read(f"{url}/health")
        assert health["budget"]["daily_usd"] == 5.0 and "policy" not in health["missing"]

    replayed = told("replay", "--home", home, "--queries", "60", "--rate", "0", "--corrections", "1")
    assert replayed["queries"] == 60 and replayed["agents"] == 4 and replayed["users"] == "simulated"
    assert sum(replayed["answered_by"].values()) == 60 and replayed["corrections"] == 60 - replayed["right"]

    def learned() -> Any:
        rounds = told("rounds", "list", "--home", home)
        return [entry for entry in rounds if entry["state"] == "finished" and entry["release"] != first]

    done = eventually(learned)[0]
    assert done["survivors"] == 4 and done["cohort"] == 4
    assert told("rounds", "show", str(done["round"]), "--home", home)["usd"]["central_compute"] > 0

    def billed() -> bool:  # central books what it answered every few seconds
        with urlopen(f"{console}metrics", timeout=30) as page:
            return b'fedge_cost_usd_total{kind="probes",payer="operator"}' in page.read()

    eventually(billed)
    agents = list(up["addresses"]["agents"].values())
    eventually(lambda: all(read(f"{url}/health")["release"] != first for url in agents))

    def reported() -> bool:
        """Whether the server knows of each agent what that agent says of itself."""
        health = {one["device_id"]: one for one in (read(f"{url}/health") for url in agents)}
        listed = {entry["device"]: entry for entry in told("devices", "list", "--home", home)}
        assert set(listed) == set(health)
        assert all(entry["state"] == "member" and not entry["silent"] for entry in listed.values())
        return all(
            (listed[name]["release"], listed[name]["queue"]) == (one["release"], one["queue"]["questions"])
            for name, one in health.items()
        )

    eventually(reported)
    eventually(lambda: read(f"{console}api/v1/overview")["fleet"]["queue"] == 0)
    fleet = read(f"{console}api/v1/overview")["fleet"]
    assert (fleet["members"], fleet["reporting"], fleet["silent"]) == (4, 4, 0)
    assert sum(fleet["energy_sources"].values()) == 4 and fleet["devices_on_version"].get("unknown", 0) == 0

    ended = told("down", "--home", home)
    assert len(ended["ended"]) == 9 and ended["killed"] == []
    assert processes_of(home) == []
    assert fedge("down", "--home", home).stdout.startswith("Nothing runs in")
