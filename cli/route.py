"""`fedge route`: judging a router on recorded answers."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cli.console import PlainConsole

app = typer.Typer(no_args_is_help=True, help="Which queries a strong model is worth asking for.")

_MEASURES = {
    "apgr": "APGR",
    "cpt_50": "CPT 50 %",
    "cpt_80": "CPT 80 %",
    "aurc": "AURC",
    "local_at_equal": "local, equal",
    "local_at_minus_half_point": "-0.5 point",
    "local_at_minus_one_point": "-1 point",
}
_PLAIN = ("apgr", "aurc")


@app.callback()
def group() -> None:
    """Keep `fedge route` a group of commands."""


@app.command("eval")
def evaluate(
    data: Annotated[Path, typer.Option(help="Recorded answers: csv (gzip too) with columns prompt, weak, strong.")],
    seed: Annotated[list[int] | None, typer.Option(help="Divides the file in halves; may be given again.")] = None,
    draws: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap draws behind each interval.")] = 500,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Train a small router federally on one half of recorded answers and measure it on the other.

    Reports CPT, APGR, AURC and the share answered by the weak model at equal quality and half a point and a point below,
    with 95 % bootstrap intervals, beside random, prompt length, TF-IDF with ridge regression and an oracle. Takes about
    two minutes a seed on 14,000 prompts; progress goes to standard error.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from cli.console import PlainConsole
    from sim.routing.evaluate import evaluate as run

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    shown = PlainConsole(stderr=True)
    with Progress(*columns, console=shown, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        said: set[str] = set()

        def stage(text: str, done: int, of: int) -> None:
            bar.update(task, description=text, completed=done, total=of)
            if not shown.is_terminal and text not in said:
                said.add(text)
                print(text, file=sys.stderr)

        document = run(data, seeds=seed or [1], draws=draws, stage=stage)
    if json_output:
        print(json.dumps(document))
        return
    _show(document, PlainConsole())


def _show(document: dict[str, Any], console: "PlainConsole") -> None:
    left_out = document["contaminated_left_out"]
    console.print(
        f"{document['prompts']} prompts of {document['data']}"
        + (f" ({left_out} contaminated left out)." if left_out else ".")
    )
    if document["columns_not_used"]:
        console.print(f"Columns not used: {', '.join(document['columns_not_used'])}.")
    for run in document["runs"]:
        _show_run(run, document["unit"], console)
    if len(document["runs"]) > 1:
        means = ", ".join(f"{router} {value:.3f}" for router, value in document["apgr_mean"].items())
        console.print(f"\nAPGR, mean of {len(document['runs'])} seeds: {means}")


def _show_run(run: dict[str, Any], unit: str, console: "PlainConsole") -> None:
    from rich.table import Table

    training = run["training"]
    console.print(
        f"\nSeed {run['seed']}: {run['training_prompts']} prompts to train on, {run['held_out_prompts']} held out; "
        f"{unit} weak {run['weak']:.4f}, strong {run['strong']:.4f}."
    )
    console.print(
        f"Router of {training['router_bytes'] / 1e6:.2f} MB, trained on {training['devices']} devices "
        f"(by {training['divided_by']}) in {training['rounds']} sums; "
        f"a device sends {training['upload_bytes_per_device'] / 1e6:.1f} MB in all."
    )
    table = Table("router", box=None, pad_edge=False)
    measures = [key for key in _MEASURES if key in run["routers"]["fedge"]]
    for key in measures:
        table.add_column(_MEASURES[key], justify="right", no_wrap=True)
    for router, entry in run["routers"].items():
        table.add_row(router, *(_cell(entry[key], plain=key in _PLAIN) for key in measures))
    console.print(table)
    for other, entry in run["routers"]["fedge"]["apgr_above"].items():
        low, high = entry["interval_95"]
        console.print(f"APGR above {other}: {entry['value']:+.3f} ({low:+.3f} to {high:+.3f})")
    if "risk_coverage" in run["routers"]["fedge"]:
        coverages = [point["coverage"] for point in run["routers"]["fedge"]["risk_coverage"]]
        table = Table("error of the weak model at coverage", *(f"{c:.0%}" for c in coverages), box=None, pad_edge=False)
        for router, entry in run["routers"].items():
            table.add_row(router, *(f"{point['risk']:.1%}" for point in entry["risk_coverage"]))
        console.print(table)
    if "usd_per_1k_at_cpt_80" in run["routers"]["fedge"]:
        entry = run["routers"]["fedge"]
        console.print(
            f"1,000 queries at PGR 80 %: {entry['usd_per_1k_at_cpt_80']:.4g} USD, "
            f"all to the strong model {entry['usd_per_1k_all_strong']:.4g} USD."
        )


def _cell(entry: dict[str, Any], *, plain: bool) -> str:
    low, high = entry["interval_95"]
    if plain:
        return f"{entry['value']:.3f} ({low:.3f}-{high:.3f})"
    return f"{entry['value']:.1%} ({100 * low:.0f}-{100 * high:.0f})"
