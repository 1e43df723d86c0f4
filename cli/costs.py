"""`fedge costs`: the price book and the device profiles that the ledger is computed with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedge.costs import DeviceProfile, Figure

app = typer.Typer(no_args_is_help=True, help="The price book behind every figure of the ledger.")


@app.callback()
def group() -> None:
    """Keep `fedge costs` a group of commands."""


@app.command()
def show(
    prices: Annotated[Path | None, typer.Option(help="A price book (TOML) instead of the one that ships.")] = None,
    profiles: Annotated[Path | None, typer.Option(help="Device profiles (TOML) instead of those that ship.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print every price and energy figure with its source and date."""
    from rich.table import Table

    from cli.console import PlainConsole
    from cli.files import read_text
    from fedge.costs import MODELS, PriceBook, load_profiles, profiles_from_toml

    book = PriceBook.load_default() if prices is None else PriceBook.from_toml(read_text(prices, "--prices"))
    text = None if profiles is None else read_text(profiles, "--profiles")
    devices = {model: load_profiles(model) if text is None else profiles_from_toml(text, model=model) for model in MODELS}
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
                    for key, figure in profile.items()
                }
                for name, profile in _by_model(devices).items()
            },
        }
        print(json.dumps(document))
        return
    console = PlainConsole()
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
    for name, profile in _by_model(devices).items():
        for key, figure in profile.items():
            table.add_row(f"{name}: {key}", f"{figure.value:g}", figure.source, str(figure.date))
    console.print(table)


def _by_model(devices: "Mapping[str, Mapping[str, DeviceProfile]]") -> "dict[str, dict[str, Figure]]":
    """Every figure of every device, once; those that depend on the kind of model as `text.inference_s`."""
    from fedge.costs import MODEL_FIGURES

    merged: dict[str, dict[str, Figure]] = {}
    for model, profiles in devices.items():
        for name, profile in profiles.items():
            for key, figure in profile.figures.items():
                merged.setdefault(name, {})[f"{model}.{key}" if key in MODEL_FIGURES else key] = figure
    return merged
