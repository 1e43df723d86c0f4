"""`fedge device run` and `fedge device status`."""

import json
import logging
from pathlib import Path

import typer

from cli.homes import device_home


def run_agent(home: Path | None) -> None:
    """Serve until a signal ends it. Raises InputError where the home cannot be used or an agent runs in it."""
    from edge_client.fleet import fleet_plugs
    from edge_client.process import AgentProcess

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    chosen = device_home(home)
    process = AgentProcess(chosen, plugs=fleet_plugs(chosen, chosen.settings()))
    name = process.settings.device_id
    process.run(ready=lambda url: print(f"Device {name} answers at {url} (Ctrl-C ends it)", flush=True))


def show_status(home: Path | None, *, json_output: bool) -> None:
    """What runs, and what is missing."""
    from cli.local_api import exchange
    from edge_client.running import RunningAgent

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
            f"{'ready' if status['ready'] else 'not ready'}",
            f"  release   {release} (version {status['release_version']})",
            f"  central   {status['central']}",
            f"  queue     {queue['questions']} questions, {queue['bytes']} bytes",
            *(f"  missing   {name}: {reason}" for name, reason in missing.items()),
        ]
    )
