"""Acts of the local user on a server: who it is, and how each act is written down before it is done."""

import getpass
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli.homes import open_server

if TYPE_CHECKING:
    from aggregator.operator import Operator

Record = Callable[[str, str, str], AbstractContextManager[None]]


@contextmanager
def acting(home: Path | None) -> "Iterator[tuple[Operator, str, Record]]":
    """The operator's reach, the local user's name, and ``record(action, target, reason)`` for the audit."""
    from aggregator.operator import MAX_REASON, Operator

    with open_server(home) as (server, database):
        name = getpass.getuser()

        def record(action: str, target: str, reason: str) -> AbstractContextManager[None]:
            who = {"actor": name, "role": "operator", "action": action, "target": target, "reason": reason[:MAX_REASON]}
            return database.audit.recorded(time.time, detail=None, **who)

        yield Operator(server, database=database), name, record
