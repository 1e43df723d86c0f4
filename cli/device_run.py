"""`fedge device run` and `fedge device status`."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import typer

from cli.homes import device_home

_FEW_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""Read by libraries when they load: an agent runs small models, one query at a time."""


def run_agent(home: Path | None, policy: Path | None = None) -> NoReturn:
    """Become the agent: the same process, without the command line's own 7 MB. Raises InputError where there is no home.

    ``policy``: a file in place of the one that the device's settings name.
    """
    chosen = device_home(home)
    # Where the working directory is on the path already (python -m cli.main), the agent's packages may be found there alone.
    safe_path = [] if sys.path[0] in ("", str(Path.cwd())) else ["-P"]
    environment = {**_FEW_THREADS, **os.environ}
    more = [] if policy is None else [str(policy.expanduser().absolute())]
    command = [sys.executable, *safe_path, "-m", "edge_client", str(chosen.folder), *more]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own module


def show_status(home: Path | None, *, json_output: bool) -> None:
    """What runs, and what is missing."""
    from cli.local_api import exchange
    from edge_client.agent_file import RunningAgent

    chosen = device_home(home)
    running = RunningAgent.of(chosen)
    if running is None:
        status = {"running": False, "ready": False, "device_id": chosen.settings().device_id}
    else:
        _, health = exchange(running.url, "GET", "/health")
        status = {"running": True, "url": running.url, "pid": running.pid, **health}
    print(json.dumps(status) if json_output else _shown(status))
    if not status["ready"]:
        raise typer.Exit(1)


def _shown(status: dict[str, object]) -> str:
    if not status["running"]:
        return f"Device {status['device_id']}: no agent runs; start it with fedge device run"
    release = str(status["release"] or "none")[:12]
    queue = status["queue"]
    assert isinstance(queue, dict)
    missing = status["missing"]
    assert isinstance(missing, dict)
    return "\n".join(
        [
            f"Device {status['device_id']} at {status['url']} (process {status['pid']}): "
            f"{'ready' if status['ready'] else 'not ready'}{'' if status['recording'] else ', records nothing'}",
            f"  release   {release} (version {status['release_version']})",
            f"  central   {status['central']}",
            f"  queue     {queue['questions']} questions, {queue['bytes']} bytes",
            f"  reports   {_reports(status)}",
            *_contributions(status),
            *_limits(status),
            *(f"  missing   {name}: {reason}" for name, reason in missing.items()),
        ]
    )


def _contributions(status: dict[str, object]) -> list[str]:
    """Return the device's privacy ledger: what left it in secure sums, a line for each purpose."""
    ledger = status.get("contributions")
    if not isinstance(ledger, list) or not ledger:
        return ["  privacy   nothing has left this device in secure sums"]
    lines = []
    for entry in ledger:
        last = datetime.fromtimestamp(entry["at"], UTC).strftime("%Y-%m-%d %H:%M")
        epsilon = f", epsilon {entry['epsilon']:g} in all for one probe" if entry["epsilon"] else ""
        lines.append(f"  privacy   {entry['purpose']}: in {entry['count']} secure sums, last on {last} UTC{epsilon}")
    return lines


def _reports(status: dict[str, object]) -> str:
    """What the server is told of the device itself; see docs/security.md."""
    if not status.get("report_s"):
        return "none to the server"
    return f"release, supply and length of the queue, to the server every {status['report_s']:g} s (report_s)"


def _limits(status: dict[str, object]) -> list[str]:
    """What is left of the day's budget and of the rates, where there are any."""
    lines = []
    if isinstance(budget := status.get("budget"), dict):
        lines.append(f"  budget    {budget['left_usd']:.4g} of {budget['daily_usd']:.4g} USD are left today (UTC)")
    if isinstance(rate := status.get("rate"), dict):
        for name, bucket in rate.items():
            left = f"{bucket['left']} of {bucket['burst']}"
            lines.append(f"  rate      {left} questions may go to central at once ({name.replace('_', ' ')})")
    return lines
