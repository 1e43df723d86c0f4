"""`fedge server accounts`: who may log in to the console. On the server's machine, over its database.

A password is asked for, or read as one line from standard input; it is never an argument, where other users would see it.
"""

import getpass
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.homes import ServerHomeOption, server_home
from fedge.errors import InputError

if TYPE_CHECKING:
    from aggregator.console.auth.accounts import Accounts

app = typer.Typer(no_args_is_help=True, help="Who may log in to the console.")

Note = Callable[..., None]
JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account.")]


class RoleName(StrEnum):
    """What an account may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@app.callback()
def group() -> None:
    """Keep `fedge server accounts` a group of commands."""


@app.command()
def add(
    name: NameArgument,
    role: Annotated[RoleName, typer.Option(help="A viewer sees everything, an operator acts, too.")] = RoleName.VIEWER,
    home: ServerHomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Make an account. The password is asked for twice, or read from standard input."""
    from aggregator.console.auth.policy import Role

    with _accounts(home) as (accounts, note):
        accounts.check_new(name)
        accounts.add(name, Role(role.value), _password())
        note("account.add", name, {"role": role.value})
    _say(json_output, {"account": name, "role": role.value}, f"{name} may log in as {role.value}.")


@app.command("list")
def list_accounts(home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """Every account: its role, where it comes from, and whether it is on."""
    from rich.table import Table

    from cli.console import PlainConsole

    with _accounts(home) as (accounts, _):
        entries = accounts.entries()
    if json_output:
        print(json.dumps(entries))
        return
    table = Table("account", "role", "login", "state", "made", box=None, pad_edge=False)
    for entry in entries:
        made = datetime.fromtimestamp(float(str(entry["created"])), UTC).strftime("%Y-%m-%d %H:%M")
        state = "off" if entry["disabled"] else "on"
        table.add_row(str(entry["account"]), str(entry["role"]), str(entry["login"]), state, made)
    nobody = "There is no account: fedge server accounts add NAME --role operator makes one."
    PlainConsole().print(table if entries else nobody)


@app.command()
def disable(name: NameArgument, home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """Shut an account out, and end its sessions and tokens now. The last operator stays."""
    with _accounts(home) as (accounts, note):
        accounts.disable(name)
        note("account.disable", name)
    _say(json_output, {"account": name, "disabled": True}, f"{name} is shut out.")


@app.command()
def role(
    name: NameArgument,
    wanted: Annotated[RoleName, typer.Argument(metavar="ROLE", help="viewer looks, operator acts too.")],
    home: ServerHomeOption = None,
) -> None:
    """Give an account another role, from its next request on. The last operator stays one."""
    from aggregator.console.auth.policy import Role

    with _accounts(home) as (accounts, note):
        accounts.set_role(name, Role(wanted.value))
        note("account.role", name, {"role": wanted.value})
    print(f"{name} is {wanted.value} now.")


@app.command()
def password(name: NameArgument, home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """Set a new password, which also lets a disabled account in again. Its sessions end."""
    with _accounts(home) as (accounts, note):
        accounts.check_known(name)
        accounts.set_password(name, _password())
        note("account.password", name)
    _say(json_output, {"account": name, "password": "set"}, f"{name} has a new password.")


@app.command()
def token(name: NameArgument, home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """Print a new bearer token for scripts, with the account's role. It is shown once; the one before ends."""
    with _accounts(home) as (accounts, note):
        made = accounts.new_api_token(name)
        note("account.token", name)
    print(json.dumps({"account": name, "token": made}) if json_output else made)


@contextmanager
def _accounts(home: Path | None) -> "Iterator[tuple[Accounts, Note]]":
    """The accounts, and how a change becomes part of the audit: in the name of the machine's user."""
    from aggregator.console.auth.accounts import Accounts
    from aggregator.processes import database_url
    from aggregator.store import Database

    stands = server_home(home)
    with Database.open(database_url(stands, stands.settings())) as database:

        def note(action: str, name: str, detail: dict[str, object] | None = None) -> None:
            database.audit.append(
                at=time.time(),
                actor=machine_user(),
                role="",
                action=action,
                target=name,
                detail=detail,
            )

        yield Accounts(database), note


def machine_user() -> str:
    """Who acts on the server's own machine, as the audit names them."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        name = f"user {os.getuid()}"
    return f"{name}, on the server"


def _password() -> str:
    """Typed twice at a terminal, or one line of standard input. Raises InputError."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise InputError("the two passwords differ: nothing was changed")
    return first


def _say(as_json: bool, value: object, text: str) -> None:
    print(json.dumps(value) if as_json else text)
