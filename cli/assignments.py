"""`--set KEY=VALUE`: settings given on the command line, by their dotted names in docs/configuration.md."""

import tomllib
from collections.abc import Sequence
from typing import Annotated

import typer

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting by its dotted name (docs/configuration.md); may be given several times.",
    ),
]


def assignments(given: Sequence[str] | None) -> dict[str, object]:
    """Values by dotted key. A value is read as TOML (8761, true, ["a"]), and as the text it is where it is none."""
    values: dict[str, object] = {}
    for each in given or ():
        key, equals, text = each.partition("=")
        if not key.strip() or not equals:
            raise typer.BadParameter(f"{each!r} is not KEY=VALUE", param_hint="--set")
        try:
            values[key.strip()] = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text
    return values
