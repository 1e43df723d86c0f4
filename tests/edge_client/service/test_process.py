"""`fedge device run` as a real process: killed in the middle of promises, signals, systemd, and the commands beside it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_client.agent_file import RunningAgent
from edge_client.store import open_file

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


class Process:
    """One agent process of a home."""

    def __init__(self, home, wait_for, *arguments: str, **environment: str) -> None:
        self.home = home
        self.running = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "device", "run", "--home", str(home.folder), *arguments],
            cwd=ROOT,
            env={**ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = wait_for(self._listening, "the agent").url

    def _listening(self) -> RunningAgent | None:
        assert self.running.poll() is None, self.running.communicate()
        found = RunningAgent.of(self.home)
        return found if found is not None and found.pid == self.running.pid else None

    def end(self, number: int) -> int:
        self.running.send_signal(number)
        self.running.communicate(timeout=60)
        return self.running.returncode


@pytest.fixture
def start(wait_for):
    """Starts agents; whatever still runs is killed at the end."""
    started: list[Process] = []

    def begin(home, *arguments: str, **environment: str) -> Process:
        started.append(Process(home, wait_for, *arguments, **environment))
        return started[-1]

    yield begin
    for process in started:
        if process.running.poll() is None:
            process.end(signal.SIGKILL)


def fedge(*arguments: str, home=None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *arguments, *(["--home", str(home.folder)] if home else [])]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)


def test_nothing_acknowledged_is_lost_when_the_process_is_killed_while_acknowledging(make_world, start, make_api, wait_for):
    world = make_world()
    with world.central():
        pass
    home = world.home(threshold=None, settings=("central_timeout_s = 0.5",))
    process = start(home)
    acknowledged: dict[int, str] = {}
    lock = threading.Lock()

    def promise(caller: int) -> None:
        api = make_api(process.url)
        try:
            for number in range(10_000):
                text = f"query {number} of caller {caller}"
                if (answer := api.ask(text, queue=True))["queued"]:
                    with lock:
                        acknowledged[answer["id"]] = text
        except (OSError, ValueError):  # the process is gone, in the middle of this one
            return
        except Exception as error:
            if "Incomplete" not in type(error).__name__ and "Disconnected" not in type(error).__name__:
                raise

    callers = [threading.Thread(target=promise, args=(caller,)) for caller in range(6)]
    for caller in callers:
        caller.start()
    wait_for(lambda: len(acknowledged) >= 60, "60 acknowledgements")
    process.end(signal.SIGKILL)
    for caller in callers:
        caller.join(60)
    assert len(acknowledged) >= 60
    again = start(home)
    api = make_api(again.url)
    assert {api.call("GET", f"/v1/answers/{number}")[1]["state"] for number in acknowledged} == {"queued"}
    with world.central():
        wait_for(lambda: api.call("GET", "/health")[1]["queue"]["questions"] == 0, "the queue to drain")
    states = [api.call("GET", f"/v1/answers/{number}")[1] for number in acknowledged]
    assert {(state["state"], state["answer"]) for state in states} == {("answered", "label-0")}
    assert again.end(signal.SIGTERM) == 0
    store = open_file(home.store)
    try:
        assert {store.answers.get(number).query for number in acknowledged} == set(acknowledged.values())
    finally:
        store.close()


def test_a_signal_ends_it_in_peace_and_systemd_is_told(make_world, start, tmp_path):
    world = make_world()
    with world.central():
        address = str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(address)
            systemd.settimeout(60)
            for number in (signal.SIGTERM, signal.SIGINT):
                process = start(world.home(f"home-{number}"), NOTIFY_SOCKET=address)
                assert systemd.recv(100) == b"READY=1"
                assert process.end(number) == 0
                assert systemd.recv(100) == b"STOPPING=1"
                assert RunningAgent.of(process.home) is None
                assert not process.home.store.with_name("device.sqlite-wal").exists()


def test_the_commands_beside_a_running_agent(make_world, start):
    world = make_world()
    with world.central():
        home = world.home()
        process = start(home)
        told = fedge("ask", "turn off the lights", "--json", home=home)
        assert told.returncode == 0, told.stderr
        answer = json.loads(told.stdout)
        assert answer["answered_by"] == "device" and answer["reason"] == "confident"
        shown = fedge("ask", "turn off the lights", "--central", home=home).stdout
        assert "central" in shown and "USD" in shown and "confidence" in shown and "fedge correct" in shown
        assert "kept on this device" in fedge("correct", str(answer["id"]), "label-9", home=home).stdout
        wrong = fedge("correct", "424242", "label-9", home=home)
        assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1) and "424242" in wrong.stderr
        assert "reports   release, supply and length of the queue, to the server every 60 s" in (
            fedge("device", "status", home=home).stdout
        )
        status = fedge("device", "status", "--json", home=home)
        assert status.returncode == 0 and json.loads(status.stdout)["url"] == process.url
        second = fedge("device", "run", home=home)
        assert second.returncode == 1 and "already" in second.stderr and second.stderr.count("\n") == 1
        assert process.end(signal.SIGTERM) == 0
    for arguments in (("ask", "anyone there"), ("correct", "1", "label-1")):
        silent = fedge(*arguments, home=home)
        assert silent.returncode == 1 and silent.stderr.count("\n") == 1 and "no agent runs" in silent.stderr
    assert fedge("device", "status", home=home).returncode == 1
    assert fedge("ask", "x", "--local-only", "--central", home=home).returncode == 2


def test_what_a_device_keeps_is_listed_exported_and_deleted_for_good(make_world, start):
    world = make_world()
    secret = "the word xylophone-secret-4711"
    with world.central():
        home = world.home()
        process = start(home)
        for mode in ("--local-only", "--central"):
            assert fedge("ask", secret, mode, home=home).returncode == 0
        kinds = {
            kind["kind"]: kind["rows"] for kind in json.loads(fedge("device", "data", "list", "--json", home=home).stdout)
        }
        assert kinds == {"answers": 2, "memory": 1, "probes": 0, "outbox": 0, "waiting": 0, "fates": 1}
        rows = [json.loads(line) for line in fedge("device", "data", "export", home=home).stdout.splitlines()]
        assert sum(row.get("query") == secret for row in rows) == 3
        old = fedge("device", "forget", "--before", "2020-01-01", "--json", home=home)
        assert json.loads(old.stdout) == {"rows": 0}
        assert fedge("device", "forget", home=home).returncode == 2
        gone = fedge("device", "forget", "--all", "--json", home=home)
        assert json.loads(gone.stdout) == {"rows": 4}
        raw = b"".join(path.read_bytes() for path in home.folder.glob("device.sqlite*"))
        assert b"xylophone" not in raw and len(raw) > 0
        assert fedge("ask", "and it still answers", home=home).returncode == 0
        assert process.end(signal.SIGTERM) == 0


def test_a_policy_given_on_the_command_line_takes_the_place_of_the_settings(make_world, start, tmp_path):
    world = make_world()
    policy, other = tmp_path / "policy.toml", 'policy = "nowhere.toml"'
    policy.write_text("[budget]\ndaily_usd = 0\n")
    with world.central():
        home = world.home(settings=(other,))
        start(home, "--policy", str(policy))
        answer = json.loads(fedge("ask", "turn off the lights", "--central", "--json", home=home).stdout)
        assert (answer["answered_by"], answer["reason"], answer["degraded"]) == ("device", "over_budget", True)
        shown = fedge("ask", "turn off the lights", "--central", home=home).stdout
        assert "device, degraded: the day's budget is spent" in shown
        assert "0 of 0 USD are left today" in fedge("device", "status", home=home).stdout
    for text, said in (("[budget]\ndaily = 1\n", "budget.daily"), ("[rate]\nper_hour = 0\n", "rate.per_hour")):
        policy.write_text(text)
        refused = fedge("device", "run", "--policy", str(policy), home=world.home(said))
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1) and said in refused.stderr
    missing = fedge("device", "run", home=world.home("missing", settings=(other,)))
    assert missing.returncode == 1 and missing.stderr.count("\n") == 1 and "nowhere.toml" in missing.stderr
