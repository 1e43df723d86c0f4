"""`fedge policy`: what a policy file says, checked, and spelled out for the devices of a workload."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Which queries are pinned, what errors cost, how much a device may ask.")


class PolicyWorkload(StrEnum):
    """Workloads whose labels and topics are known."""

    DIGITS = "digits"
    HOME = "home"
    CLINC150 = "clinc150"
    CSV = "csv"


@app.callback()
def group() -> None:
    """Keep `fedge policy` a group of commands."""


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A policy (TOML); docs/policy.md explains every key.")],
    workload: Annotated[
        PolicyWorkload | None, typer.Option(help="Check names against its labels, and spell topics out as labels.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="For --workload csv: text,label[,user] in UTF-8, gzip too.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check a policy and print it, as TOML that a device reads. With --workload every rule stands under its label."""
    from cli.files import read_text
    from fedge.routing import Policy
    from fedge.routing.policy_text import as_document, as_toml

    policy = Policy.from_toml(read_text(file, "FILE"))
    if workload is not None:
        from aggregator.workbench.workloads import load_workload
        from fedge.randomness import root_seed

        loaded = load_workload(workload.value, seed=root_seed(1), data_file=data)
        policy = policy.for_labels(loaded.topics, loaded.labels)
    print(json.dumps(as_document(policy)) if json_output else as_toml(policy), end="\n" if json_output else "")
