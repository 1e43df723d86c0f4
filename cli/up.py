"""`fedge up` and `fedge down`: the whole system on this machine, started and ended."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.homes import ServerHomeOption, fedge_home


class UpWorkload(StrEnum):
    """What a local fleet may be asked: devices of `digits` have no way to type a picture."""

    HOME = "home"
    CLINC150 = "clinc150"
    CSV = "csv"


JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]

_TRY = {
    "home": "turn off the lights in the kitchen",
    "clinc150": "how much money is in my savings account",
}


def up(
    devices: Annotated[int, typer.Option(help="Devices to run; below 8 it is a demonstration: its sums hide nothing.")] = 4,
    workload: Annotated[
        UpWorkload | None, typer.Option(help="What is asked and answered.", show_default="home, or what stands there")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="For --workload csv: text,label[,user] in UTF-8, gzip too.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy (TOML) for all devices.")] = None,
    home: ServerHomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Bring up the whole system on loopback: SuperLink, door, central, console, rounds and N agents, over mutual TLS.

    Sets the server up first where that was not done (`fedge server init`), enrols the devices, and returns when all is
    healthy. `fedge down` ends exactly what this started.
    """
    from cli.local_fleet import LocalFleet, StartFailed, start
    from cli.stages import Stages

    try:
        with Stages(quiet=json_output) as stages:
            summary = start(
                LocalFleet(fedge_home(home)),
                devices=devices,
                workload=None if workload is None else workload.value,
                data=data,
                policy=policy,
                stage=stages,
            )
    except StartFailed as failed:
        print(failed.tail, file=sys.stderr)
        raise
    print(json.dumps(summary) if json_output else _shown(summary, given=home))


def down(home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """End exactly what `fedge up` started. Keys, models, and what devices learned stay for the next time."""
    from cli.local_fleet import LocalFleet, stop

    base = fedge_home(home)
    ended, killed = stop(LocalFleet(base))
    if json_output:
        print(json.dumps({"home": str(base), "ended": ended, "killed": killed}))
    elif not ended:
        print(f"Nothing runs in {base}.")
    else:
        more = f" ({', '.join(killed)} did not end when asked and had to be killed)" if killed else ""
        print(f"Ended {len(ended)} processes{more}. Keys, models and what the devices learned are kept in {base}.")


def _login(account: dict[str, str] | None) -> list[str]:
    if account is None:
        return []
    return [f"             to act, log in as {account['account']}; the password is in {account['password_file']}"]


def _shown(summary: dict[str, Any], *, given: Path | None) -> str:
    addresses, rounds = summary["addresses"], summary["rounds"]
    agents = addresses["agents"]
    first = next(iter(agents.values()))
    where = "" if given is None else f" --home {given}"
    lines = [
        f"Up after {summary['healthy_after_s']:.0f} s: workload {summary['workload']}, {summary['devices']} agents, "
        f"a round every {rounds['period_s']:.0f} s.",
    ]
    if summary["secagg"] == "demo":
        lines.append(
            "This is a demonstration: with fewer than 8 devices to add up, sums are not private. "
            "fedge up --devices 16 is private."
        )
    lines += [
        "",
        f"  console    {addresses['console']}",
        *_login(summary["console_login"]),
        f"  central    {addresses['central']} (gRPC, mutual TLS)",
        f"  door       {addresses['door']} (gRPC, mutual TLS: enrolment, releases, rounds)",
        *(f"  {name:<10} {url}" for name, url in agents.items()),
        f"  logs       {summary['logs']}",
        "",
        "Try next:",
        f'  fedge ask "{_TRY.get(summary["workload"], "...")}" --url {first}',
        f"  fedge replay{where}          simulated users ask; rounds learn from what central answers",
        f"  fedge rounds list{where}     what the rounds did",
        f"  fedge down{where}",
    ]
    return "\n".join(lines)
