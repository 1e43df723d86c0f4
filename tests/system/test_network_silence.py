"""The main job, a live fleet and a query connect to this machine alone, as the kernel saw every call.

They run in a network namespace that has loopback and no route, under strace: what they try is seen, name lookups included.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedge.telemetry import TELEMETRY_SWITCHES

ROOT = Path(__file__).resolve().parents[2]
CALLS = "connect,sendto,sendmsg,sendmmsg"
FEDGE = f"{shlex.quote(sys.executable)} -m cli.main"
_ADDRESS = re.compile(r'sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"')
_LOOPBACK = re.compile(r"(?:::ffff:)?127\.|::1$")
DNS_PORT = 53


def reached(trace: str) -> list[str]:
    """The addresses that were tried beyond this machine, and any name server, with the call."""
    lines = [line for line in trace.splitlines() if (found := _ADDRESS.search(line)) and not stays(found[2], int(found[1]))]
    return [line[:200] for line in lines]


def stays(address: str, port: int) -> bool:
    """Tell whether an address is this machine's own and no name server."""
    return _LOOPBACK.match(address) is not None and port != DNS_PORT


def traced(script: str, folder: Path) -> str:
    """Run a shell script to its end in a namespace without a route, with an empty home; return what strace wrote."""
    home, trace = folder / "empty", folder / "trace"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in TELEMETRY_SWITCHES}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    watch = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace), "-e", f"trace={CALLS}"]
    inner = f"ip link set lo up && exec {shlex.join(watch)} sh -ec {shlex.quote(script)}"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", inner],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    left = [path for path in home.rglob("*") if path.is_file()]
    assert left == [], "an empty home must stay empty"
    return trace.read_text(errors="replace")


@pytest.fixture(scope="module", autouse=True)
def needs_namespaces() -> None:
    for tool in ("strace", "unshare", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here")
    probe = ["unshare", "-n", "sh", "-c", "ip link set lo up && strace -f --seccomp-bpf -qq -o /dev/null true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("network namespaces and tracing need root")


def test_a_call_beyond_this_machine_and_a_name_lookup_are_seen(tmp_path: Path) -> None:
    """The control: an address of the documentation's range, and a name."""
    code = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect_ex(('192.0.2.1', 443)); "
        "s.setblocking(False); s.connect_ex(('127.0.0.1', 53))"
    )
    trace = traced(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}", tmp_path)
    assert len(reached(trace)) == 2


def test_the_main_job_calls_nobody(tmp_path: Path) -> None:
    trace = traced(f"{FEDGE} sim run --workload digits --devices 10 --rounds 1 --seed 1 --out run", tmp_path)
    assert (tmp_path / "run" / "summary.json").is_file()
    assert reached(trace) == []


def test_a_live_fleet_and_a_query_call_nobody_else(tmp_path: Path) -> None:
    script = f"""
        {FEDGE} server init --home fleet
        trap '{FEDGE} down --home fleet' EXIT
        {FEDGE} up --devices 2 --home fleet
        {FEDGE} ask 'turn off the lights in the kitchen' --home fleet
        for _ in $(seq 300); do
          {FEDGE} rounds list --home fleet | grep -q finished && break
          sleep 1
        done
        {FEDGE} rounds list --home fleet | grep finished
    """
    trace = traced(script, tmp_path)
    assert _ADDRESS.search(trace) is not None, "a fleet speaks over loopback"
    assert reached(trace) == []
