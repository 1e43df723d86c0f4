"""Enrollment and release signing on another machine, as docs/security.md writes it: its blocks are run as they stand."""

import base64
import json
import os
import re
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
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from aggregator.rounds.client_selection import least_sum
from edge_client.agent_file import RunningAgent
from edge_client.settings import DeviceHome
from fedge.settings_text import with_values

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Enrollment and release signing on another machine\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```sh\n# (signing machine|server|device)\n(.*?)```", SECTION, re.DOTALL)
PATIENCE_S = 240.0
DEVICES = [f"sensor-{number}" for number in range(1, 5)]

FEDGE = f"""#!/bin/bash
case "$1 $2" in
"server init") exec {sys.executable} -m cli.main "$@" $INIT ;;
"server run" | "device run")
  nohup {sys.executable} -m cli.main "$@" > "$HOME/$1-$(basename "${{@: -1}}").log" 2>&1 &
  echo $! >> "$PROCESSES" ;;
*) exec {sys.executable} -m cli.main "$@" ;;
esac
"""


class Machines:
    """Three home folders, and a stick that is carried between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stick = folder / "stick"
        self.processes = folder / "processes"
        for name in ("signing machine", "server", "device", "stick", "bin"):
            (folder / name).mkdir()
        script = folder / "bin" / "fedge"
        script.write_text(FEDGE)
        script.chmod(0o755)
        self.variables: dict[str, str] = {}

    def home(self, machine: str) -> Path:
        return self.folder / machine

    def run(self, machine: str, commands: str) -> subprocess.CompletedProcess[str]:
        """Run shell commands on one machine."""
        kept = {name: value for name, value in os.environ.items() if name != "FEDGE_HOME"}
        environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "HOME": str(self.home(machine)),
            "STICK": str(self.stick),
            "PROCESSES": str(self.processes),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            **self.variables,
        }
        return subprocess.run(
            ["bash", "-ec", commands], capture_output=True, text=True, timeout=600, check=False, env=environment
        )

    def done(self, machine: str, commands: str) -> str:
        """Run commands that must succeed; return what they print."""
        result = self.run(machine, commands)
        assert result.returncode == 0, f"{machine}: {commands}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def end(self) -> None:
        """End the processes that were started here."""
        pids = [int(line) for line in self.processes.read_text().split()] if self.processes.is_file() else []
        for pid in pids:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 60
        while (left := [pid for pid in pids if _is_running(pid)]) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "a process does not stop when it is told to, a round that waits for a signature included"


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"  # one that ended may still wait to be reaped


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path)
    yield made
    made.end()


def eventually(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.5)
    return found


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def secrets_of(folder: Path) -> list[bytes]:
    """The private keys in a folder, in each form in which they could lie elsewhere."""
    found: list[bytes] = []
    for path in folder.rglob("*"):
        if path.suffix in (".pem", ".key"):
            raw = load_pem_private_key(path.read_bytes(), None).private_bytes_raw()
            found += [raw, base64.b64encode(raw), raw.hex().encode(), path.read_bytes().split(b"\n")[1]]
    return found


def holds_any(folder: Path, secrets: list[bytes]) -> list[Path]:
    return [
        path for path in folder.rglob("*") if path.is_file() and any(secret in path.read_bytes() for secret in secrets)
    ]


def read(url: str) -> Any:
    with urlopen(url, timeout=30) as response:
        return json.loads(response.read())


def test_the_procedure_of_the_page_enrolls_a_device_that_takes_a_release_signed_elsewhere(machines: Machines) -> None:
    assert [machine for machine, _ in BLOCKS] == [
        *("signing machine", "server"),
        *("server", "device", "server", "signing machine", "server", "device"),
        *("server", "signing machine", "server"),
    ]
    commands = [block for _, block in BLOCKS]
    ports = free_ports(5 + len(DEVICES))
    names = ("fleet_port", "join_port", "central_port", "console_port", "superlink_port")
    cohort = {"rounds.cohort": 4, "rounds.n_min": least_sum(4), "rounds.period_s": 8, "rounds.calendar_s": 10}
    values = {**dict(zip(names, ports, strict=False)), **cohort, "releases.canary_share": 0.0}
    machines.variables["INIT"] = " ".join(f"--set {name}={value}" for name, value in values.items())

    # 1. The keys are made on the signing machine; the server starts without them.
    machines.done("signing machine", commands[0])
    keys = machines.home("signing machine") / "fedge-keys"
    secrets = secrets_of(keys)
    assert len(secrets) == 4 * 4, "enrollment, release, TUF's targets and root"
    assert holds_any(machines.stick, secrets) == []
    machines.done("server", commands[1])
    server = machines.home("server") / ".fedge" / "server"
    log = machines.home("server") / "server-all.log"
    eventually(lambda: log.read_text().count("is ready") >= 4)

    # 2. Without the signing machine nobody becomes a member.
    machines.done("server", commands[2])
    first = machines.run("device", commands[3])
    assert first.returncode == 1 and "sensor-1 waits to be enrolled" in first.stderr, first.stderr
    accepted = re.search(r"sensor-1=[0-9a-f-]{39}", first.stderr)
    assert accepted is not None
    again = machines.run("device", commands[3])
    assert again.returncode == 1 and accepted[0] in again.stderr
    joins, fingerprints = {}, {}
    for name in DEVICES[1:]:
        joins[name] = machines.done("server", "fedge devices token").strip()
        told = machines.run("device", f"fedge device enroll '{joins[name]}' --name {name}").stderr
        fingerprints[name] = re.search(rf"{name}=[0-9a-f-]{{39}}", told)[0]  # type: ignore[index]
    assert json.loads(machines.done("server", "fedge devices list --json")) == []

    # 3. The visit: another key than the device's is not enrolled.
    machines.done("server", commands[4])
    machines.variables["DEVICE"] = fingerprints["sensor-2"].replace("sensor-2", "sensor-1")
    swapped = machines.run("signing machine", commands[5])
    assert swapped.returncode == 1 and "somebody else asks in the device's name" in swapped.stderr
    assert accepted[0].replace("=", ": key ") in swapped.stdout and not (machines.stick / "reply").exists()
    machines.variables["DEVICE"] = accepted[0]
    machines.done("signing machine", commands[5])
    machines.done("server", commands[6])
    machines.done("device", commands[7])
    for name in DEVICES[1:]:
        assert machines.run("device", f"fedge device enroll '{joins[name]}' --name {name}").returncode == 1
    machines.done("server", commands[4])
    accept = " ".join(f"--accept {one}" for one in fingerprints.values())
    machines.done("signing machine", f'fedge keys sign "$STICK/request" "$STICK/reply" --keys ~/fedge-keys {accept}')
    machines.done("server", commands[6])
    for name in DEVICES[1:]:
        machines.done("device", f"fedge device enroll '{joins[name]}' --name {name}")
    listed = json.loads(machines.done("server", "fedge devices list --json"))
    assert [(entry["device"], entry["state"]) for entry in listed] == [(name, "member") for name in DEVICES]

    # 4. A round waits for its release and for its certificate; until they are signed, devices stay where they are.
    devices = machines.home("device") / ".fedge" / "devices"
    for name, port in zip(DEVICES, ports[5:], strict=True):
        demo = {"min_cohort": cohort["rounds.n_min"], "min_period_s": 10.0, "training.max_example_share": 1.0}
        file = devices / name / "device.toml"
        file.write_text(with_values(file.read_text(), {**demo, "sync_s": 2.0, "api.port": port}))
        machines.done("device", f"fedge device run --home ~/.fedge/devices/{name}")
    agents = eventually(
        lambda: (
            found
            if all(found := [RunningAgent.of(DeviceHome(devices / name)) for name in DEVICES])
            else None
        )
    )

    def running() -> list[str]:
        return [read(f"{agent.url}/health")["release"] for agent in agents]

    eventually(lambda: None not in running())
    before = set(running())
    assert len(before) == 1
    feed = machines.folder / "feed"
    feed.mkdir()
    (feed / "server").symlink_to(server)
    (feed / "devices").symlink_to(devices)
    machines.done("device", f"fedge replay --home {feed} --queries 80 --rate 0 --corrections 1 --json")

    def waits(what: str) -> bool:
        return what in machines.done("server", "fedge releases list")

    def visit() -> None:
        for block, machine in zip(commands[8:], ("server", "signing machine", "server"), strict=True):
            machines.done(machine, block)

    def release_waits() -> bool:
        # A round that began before the devices had learned anything has no release, and its certificate comes first.
        if waits("Waits for the signing machine: a certificate"):
            visit()
        return waits("Waits for the signing machine: a release")

    eventually(release_waits)
    assert set(running()) == before
    visit()
    eventually(lambda: waits("Waits for the signing machine: a certificate"))
    active = [one for one in json.loads(machines.done("server", "fedge releases list --json")) if one["state"] == "active"]
    assert {one["release"] for one in active} == before == set(running())
    visit()
    eventually(lambda: before.isdisjoint(running()))

    assert holds_any(server, secrets) == [] and holds_any(machines.stick, secrets) == []
    assert holds_any(machines.home("device"), secrets) == []
