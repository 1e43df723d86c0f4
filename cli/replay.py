"""`fedge replay`: a workload's queries through the agents' real local API."""

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.homes import ServerHomeOption, fedge_home, server_home

if TYPE_CHECKING:
    from cli.replaying import Replay, Tally

PLAIN_LINE_EVERY_S = 5.0


def replay(
    home: ServerHomeOption = None,
    workload: Annotated[
        str | None, typer.Option(help="Checked against the server's: labels must fit.", show_default="the server's")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries in all, dealt over the agents that run.")] = 200,
    rate: Annotated[float, typer.Option(min=0.0, help="Queries a second in all; 0: as fast as they are answered.")] = 20.0,
    corrections: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability that a simulated user corrects a wrong answer.")
    ] = 0.05,
    json_output: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Feed the workload's queries through the agents that run here: live counts of who answered, and what it cost.

    The users are simulated, and so are their corrections; the agents, their answers and what follows from them are real. A
    further replay goes on where the last one ended.
    """
    from aggregator.workbench.preparation import prepared_workload
    from cli.replaying import Replay, Target
    from cli.stages import Stages
    from edge_client.agent_file import RunningAgent
    from edge_client.settings import DeviceHome
    from fedge.errors import InputError

    base = fedge_home(home)
    settings = server_home(home).settings()
    if workload not in (None, settings.workload):
        raise InputError(f"--workload {workload}: this server was set up for {settings.workload}")
    found = [RunningAgent.of(DeviceHome(folder)) for folder in sorted(base.glob("devices/*"))]
    targets = [Target(agent.device_id, agent.url) for agent in found if agent is not None]
    if not targets:
        raise InputError(f"no agent runs in {base / 'devices'}: start the system with fedge up")
    with Stages(quiet=json_output) as stages:
        stages(f"loading {settings.workload}")
        data = prepared_workload(settings.workload, seed=settings.seed, data=settings.data, devices=None)
    running = Replay(
        workload=data,
        targets=targets,
        seed=settings.seed,
        queries=queries,
        rate=rate,
        corrections=corrections,
        positions=base / "run" / "replay.json",
    )
    if json_output:
        print(json.dumps({**running.run().to_mapping(), "agents": len(targets), "workload": settings.workload}))
        return
    print(f"Simulated users ask {len(targets)} agents {queries} queries of workload {settings.workload}.")
    try:
        _watched(running)
    except KeyboardInterrupt:
        print("fedge: interrupted; a further replay goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None


def _watched(running: "Replay") -> None:
    from rich.live import Live

    from cli.console import PlainConsole

    console = PlainConsole()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            running.run(watch=lambda tally: live.update(_line(tally)))
        return
    said = time.monotonic()

    def now_and_then(tally: "Tally") -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_LINE_EVERY_S:
            said = time.monotonic()
            print(_line(tally), flush=True)

    print(_line(running.run(watch=now_and_then)))


def _line(tally: "Tally") -> str:
    who = ", ".join(f"{count} by {name}" for name, count in sorted(tally.answered_by.items()))
    share = f"{tally.right / tally.queries:.0%} right" if tally.queries else "none answered yet"
    usual = tally.to_mapping()["latency_ms_p50"]
    return (
        f"{tally.queries} answered ({who or '-'}), {share}, {tally.corrections} corrected by simulated users, "
        f"{tally.degraded} degraded, {tally.usd:.6f} USD" + ("" if usual is None else f", {usual:.1f} ms p50")
    )
