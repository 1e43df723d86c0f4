"""`fedge sim scenarios`: what-if questions over one recorded run."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.simulate import WorkloadName

if TYPE_CHECKING:
    from cli.console import PlainConsole
    from sim.config import SimulationConfig
    from sim.days import Observer
    from sim.scenarios.base import Scenario

# Where the output goes to a file, there is no terminal whose width would count.
WIDTH_OF_FILES = 150


def scenarios(
    out: Annotated[Path, typer.Option(help="Folder for scenarios.json and scenarios.html.")],
    workload: Annotated[WorkloadName, typer.Option(help="The run's workload.")] = WorkloadName.DIGITS,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of a run by fedge sim run; one without a record is played there.", show_default="OUT/run"),
    ] = None,
    devices: Annotated[int, typer.Option(help="Of the run, where it is played now.")] = 30,
    rounds: Annotated[int, typer.Option(help="Of the run, where it is played now.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the run, where it is played now.")] = 1,
    queries_per_round: Annotated[
        int | None, typer.Option(help="Of the run, where it is played now.", show_default="the workload's")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="For --workload csv: text,label[,user] in UTF-8, gzip too.")] = None,
    secagg: Annotated[
        bool, typer.Option("--secagg/--plain", help="Of the run, where it is played now: the same figures either way.")
    ] = True,
    prices: Annotated[Path | None, typer.Option(help="A price book (TOML) instead of the one that ships.")] = None,
    profiles: Annotated[Path | None, typer.Option(help="Device profiles (TOML) instead of those that ship.")] = None,
    policy: Annotated[Path | None, typer.Option(help="The routing policy (TOML) that the run is played with.")] = None,
    intent_days: Annotated[int, typer.Option(help="Days played from the one on which a new intent appears.", min=1)] = 35,
    recorded_only: Annotated[
        bool, typer.Option("--recorded-only", help="Leave out the two scenarios that play runs of their own.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print scenarios.json; no tables.")] = False,
) -> None:
    """Ask what prices, volume, errors and hardware do to the result; play the run first where there is none.

    Figures come from one recorded run and from the price book and device profiles, each with a source and a date. Two
    scenarios (a new intent, a model is replaced) play runs of their own with that run's parameters, and say so.
    """
    from cli.files import read_text
    from cli.progress import Progress
    from fedge.costs import PriceBook, profiles_from_toml
    from sim.config import SimulationConfig
    from sim.scenarios import play
    from sim.scenarios.own_runs import same_run

    book = PriceBook.load_default() if prices is None else PriceBook.from_toml(read_text(prices, "--prices"))
    figures = None if profiles is None else read_text(profiles, "--profiles")
    if figures is not None:
        profiles_from_toml(figures)  # refused before anything is played
    config = SimulationConfig(
        workload=workload.value,
        devices=devices,
        rounds=rounds,
        seed=seed,
        out=out / "run" if run is None else run,
        data=data,
        secagg=secagg,
        queries_per_round=queries_per_round,
        prices=prices,
        policy=policy,
    ).checked()
    play.make_folder(out)
    with Progress(config, quiet=json_output) as progress:
        record = play.recorded_run(config, observer=progress)
    given = play.given(record, book, profiles=figures)
    answers = play.ask_all(given)
    if not recorded_only:
        again = same_run(record, data=data, policy=policy, prices=prices, out=out)
        answers += play.play_own(given, again, observe=partial(_observe, quiet=json_output), days=intent_days)
    content = play.document(given, answers)
    play.write(out, content, play.render(given, answers))
    if json_output:
        import json

        print(json.dumps(content))
        return
    from cli.console import PlainConsole

    console = PlainConsole()
    if not console.is_terminal:
        console = PlainConsole(width=WIDTH_OF_FILES)
    for answer in answers:
        _print(console, answer)
    console.print(f"\nPage: {out / 'scenarios.html'}   numbers: {out / 'scenarios.json'}", soft_wrap=True)


@contextmanager
def _observe(title: str, config: "SimulationConfig", *, quiet: bool) -> Iterator["Observer"]:
    from cli.console import PlainConsole
    from cli.progress import Progress

    if not quiet:
        PlainConsole().print(f"\n{title}", soft_wrap=True)
    with Progress(config, quiet=quiet) as progress:
        yield progress


def _print(console: "PlainConsole", answer: "Scenario") -> None:
    from rich.table import Table
    from rich.text import Text

    from sim.scenarios.base import cell

    own = " (runs of its own)" if answer.own_runs else ""
    console.print(Text(f"\n{answer.title}{own}", style="bold"))
    table = Table("", *(name for name, _ in answer.columns), box=None, pad_edge=False, padding=(0, 1))
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    units = [unit for _, unit in answer.columns]
    for row in answer.rows:
        table.add_row(str(row[0]), *(cell(value, unit) for value, unit in zip(row[1:], units, strict=True)))
    console.print(table)
    for text in answer.findings:
        console.print(Text(text))
    for text in answer.loses:
        console.print(Text(f"Device side: {text}", style="red"))
