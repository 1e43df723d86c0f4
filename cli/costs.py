"""`fedge costs`: the price book and the device profiles that the ledger is computed with."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="The price book behind every figure of the ledger.")


@app.callback()
def group() -> None:
    """Keep `fedge costs` a group of commands."""


@app.command()
def show(
    prices: Annotated[Path | None, typer.Option(help="A price book (TOML) instead of the one that ships.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print every price and energy figure with its source and date."""
    from rich.console import Console
    from rich.table import Table

    from cli.files import read_text
    from fedge.costs import PriceBook, load_profiles

    book = PriceBook.load_default() if prices is None else PriceBook.from_toml(read_text(prices, "--prices"))
    profiles = load_profiles()
    if json_output:
        document: dict[str, Any] = {
            "version": book.version,
            "central": {
                "model": book.central_model,
                "tokens_in": book.tokens_in,
                "tokens_out": book.tokens_out,
                "usd_per_1k": 1000 * book.central_price_usd,
            },
            "figures": {
                name: {"value": figure.value, "source": figure.source, "date": str(figure.date)}
                for name, figure in book.figures.items()
            },
            "models": {
                name: {
                    "input_usd_per_mtok": model.input_usd_per_mtok,
                    "output_usd_per_mtok": model.output_usd_per_mtok,
                    "source": model.source,
                    "date": str(model.date),
                }
                for name, model in book.models.items()
            },
            "profiles": {
                name: {
                    key: {"value": figure.value, "source": figure.source, "date": str(figure.date)}
                    for key, figure in profile.figures.items()
                }
                for name, profile in profiles.items()
            },
        }
        print(json.dumps(document))
        return
    console = Console(highlight=False)
    console.print(
        f"Price book {book.version}: an answer of central is priced as {book.tokens_in} tokens in and {book.tokens_out} out "
        f"of the {book.central_model!r} model: {1000 * book.central_price_usd:.3f} USD per 1,000 queries."
    )
    table = Table("figure", "value", "source", "date", box=None, pad_edge=False)
    for name, figure in book.figures.items():
        table.add_row(name, f"{figure.value:g}", figure.source, str(figure.date))
    for name, model in book.models.items():
        price = f"{model.input_usd_per_mtok:g} / {model.output_usd_per_mtok:g}"
        table.add_row(f"{name} (USD per million tokens in / out)", price, model.source, str(model.date))
    for name, profile in profiles.items():
        for key, figure in profile.figures.items():
            table.add_row(f"{name}: {key}", f"{figure.value:g}", figure.source, str(figure.date))
    console.print(table)
