"""The account with which who ran `fedge up` logs in to the console: made once, its password in a file of its own."""

import secrets
import time
from pathlib import Path

from aggregator.settings import ServerHome
from cli.accounts import machine_user
from fedge.identity.files import write_file

NAME = "operator"
PASSWORD_BYTES = 15


def password_file(home: ServerHome) -> Path:
    """Where the password stands, in the server's folder (mode 0700), readable by its owner alone."""
    return home.folder / "console-password"


def ensure_operator(home: ServerHome) -> Path | None:
    """An operator's account where nobody could log in to the console yet. The file with its password, while there is one."""
    from aggregator.console.auth.accounts import Accounts
    from aggregator.console.auth.policy import Role
    from aggregator.console.config import has_oidc
    from aggregator.processes import database_url
    from aggregator.store import Database

    settings, file = home.settings(), password_file(home)
    with Database.open(database_url(home, settings)) as database:
        accounts = Accounts(database)
        if not accounts.entries() and not has_oidc(settings.console):
            password = secrets.token_urlsafe(PASSWORD_BYTES)
            write_file(file, f"{password}\n".encode())  # first: an account whose password nobody knows would be in the way
            accounts.add(NAME, Role.OPERATOR, password)
            detail = {"role": Role.OPERATOR.value, "by": "fedge up"}
            database.audit.append(
                at=time.time(), actor=machine_user(), role="", action="account.add", target=NAME, detail=detail
            )
    return file if file.is_file() else None
