"""What an argument's `--help` says. click 8.5 gave arguments a help of their own and so clears the one typer 0.20 had kept.

flwr keeps typer below 0.21, which puts it right. Taken out again when that bound goes.
"""

from functools import wraps
from typing import Any

from typer.core import TyperArgument


def keep() -> None:
    """Let arguments made from now on say what their `help` is, with every click."""
    made = TyperArgument.__init__

    @wraps(made)
    def keeping(self: TyperArgument, **given: Any) -> None:
        made(self, **given)
        self.help = given.get("help")

    TyperArgument.__init__ = keeping  # type: ignore[method-assign]
