"""What the tests of `deploy/` share: where things stand, and whether a command line is one of `fedge`'s."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest
import typer

from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # for `composed`


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def is_fedge_command() -> Callable[[Sequence[str] | str], None]:
    """Parses arguments of `fedge` as the command itself would, and runs nothing. Fails where it would refuse them."""

    def check(arguments: Sequence[str] | str) -> None:
        rest = shlex.split(arguments) if isinstance(arguments, str) else list(arguments)
        command: click.Command = typer.main.get_command(app)
        context: click.Context | None = None
        while isinstance(command, click.Group):
            context = click.Context(command, parent=context, info_name=command.name)
            assert rest, f"{command.name}: a subcommand is missing"
            found = command.get_command(context, rest[0])
            assert found is not None, f"fedge has no command {rest[0]!r}"
            command, rest = found, rest[1:]
        try:
            command.make_context(command.name, rest, parent=context)
        except click.UsageError as error:
            pytest.fail(f"{command.name} {rest}: {error.format_message()}")

    return check
