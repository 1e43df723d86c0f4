"""`fedge bench`: ratios against peers, measured side by side in one run."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fedge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.attacks.result import AttackResult
    from benchmarks.results import Result

JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]

app = typer.Typer(no_args_is_help=True, help="Ratios against peers, measured side by side in one run on this machine.")


@app.callback()
def group() -> None:
    """Keep `fedge bench` a group of commands."""


@app.command()
def secagg(
    case: Annotated[
        list[str] | None,
        typer.Option(
            help="A cohort and its vectors as N:M, such as 32:100000; may be given again. Default: 32:100000 100:1000000."
        ),
    ] = None,
    repetitions: Annotated[int, typer.Option(min=1, max=100, help="Medians are taken over so many runs.")] = 3,
    json_output: JsonOption = False,
) -> None:
    """Secure aggregation beside flwr's SecAgg+ primitives, CKKS (where TenSEAL is installed), plain sums and the key stream.

    Takes about three minutes at the default cases; progress goes to standard error.
    """
    from benchmarks.secagg import CASES, benchmark

    cases = tuple(_case(text) for text in case) if case else CASES
    results = benchmark(stage=_progress(), cases=cases, repetitions=repetitions)
    _show(results, json_output=json_output)


@app.command()
def inference(
    queries: Annotated[int, typer.Option(min=200, max=1_000_000, help="How many queries.")] = 2000,
    json_output: JsonOption = False,
) -> None:
    """A local answer inside the agent and over its HTTP API, beside the bare model; and the agent's resident memory."""
    from benchmarks.inference import benchmark

    _show(benchmark(stage=_progress(), queries=queries), json_output=json_output)


@app.command()
def fallback(
    calls: Annotated[int, typer.Option(min=200, max=1_000_000, help="How many escalations.")] = 1500,
    json_output: JsonOption = False,
) -> None:
    """An escalation over mutual TLS, beside a bare grpc.aio call with the same messages and certificates."""
    from benchmarks.fallback import benchmark

    _show(benchmark(stage=_progress(), calls=calls), json_output=json_output)


@app.command()
def attacks(
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Play this attack alone; may be given again. Default: all.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Play those that take seconds, as CI does.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="One seed gives one fleet, its data and its attackers.")] = 1,
    json_output: JsonOption = False,
) -> None:
    """Attacks on this code, by a hostile aggregator over real devices, by a lying device and by a greedy member.

    Each is played, not assumed: devices, protocol and sums are the real ones, in a simulated fleet. It is held where nothing
    leaks beyond what docs/security.md states; the number is what leaked (a share of the victim's numbers or examples, a
    cosine with its update) or what broke (points of accuracy, certificates, refused calls). All of them take some minutes;
    progress goes to standard error.
    """
    from benchmarks.attacks.runner import QUICK, choose_attacks, play

    chosen = choose_attacks(only or [attack.__name__ for attack in QUICK] if quick or only else [])
    results = play(chosen, seed=seed, stage=_progress())
    if json_output:
        print(json.dumps({"seed": seed, "results": [result.to_json() for result in results]}))
        return
    _show_attacks(results)


def _show_attacks(results: "list[AttackResult]") -> None:
    from rich.table import Table

    from cli.console import PlainConsole

    table = Table("attack", "", "leaked or broken", "what was seen", box=None, pad_edge=False)
    for result in results:
        number = f"{result.value:.3g} {result.unit}"
        table.add_row(result.attack, "held" if result.held else "[bold]not held[/bold]", number, result.note)
    PlainConsole().print(table)


def _progress() -> "Callable[[str], None]":
    from cli.console import PlainConsole

    return PlainConsole(stderr=True).print


def _show(results: "list[Result]", *, json_output: bool) -> None:
    from rich.table import Table

    from benchmarks.results import document
    from cli.console import PlainConsole

    if json_output:
        print(json.dumps(document(results)))
        return
    table = Table("bench", "case", "ours", "peers (times ours)", box=None, pad_edge=False)
    for result in results:
        settings = " ".join(f"{key}={value}" for key, value in result.case.items())
        peers = "  ".join(f"{name} {value:.3g} ({value / result.ours:.2f})" for name, value in result.peers.items())
        detail = "  ".join(f"{name} {value:.3g}" for name, value in result.detail.items())
        table.add_row(result.bench, settings, f"{result.ours:.4g} {result.unit}", peers or detail)
    PlainConsole().print(table)


def _case(text: str) -> tuple[int, int]:
    n, _, m = text.partition(":")
    if not (n.isdecimal() and m.isdecimal() and 8 <= int(n) <= 128 and 1 < int(m) <= 10_000_000):
        raise InputError(f"--case {text}: give N:M with 8 to 128 devices and 2 to 10000000 values, such as 32:100000")
    return int(n), int(m)
