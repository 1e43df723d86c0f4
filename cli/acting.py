"""Acting on the server's machine: the local user's name stands in the audit, which is written before anything is done."""

import getpass
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.homes import open_server

if TYPE_CHECKING:
    from aggregator.admin import Operator
    from aggregator.store import Database

ROLE = "operator"


@dataclass(frozen=True, slots=True)
class Acting:
    """The operator's reach over a server's folder, its record, and who acts."""

    operator: "Operator"
    database: "Database"
    name: str

    def recorded(
        self, action: str, target: str, reason: str, detail: Mapping[str, Any] | None = None
    ) -> AbstractContextManager[None]:
        """Around an act: see `aggregator.store.audit.AuditStore.recorded`."""
        from aggregator.admin import MAX_REASON

        who = {"actor": self.name, "role": ROLE, "action": action, "target": target, "reason": reason[:MAX_REASON]}
        return self.database.audit.recorded(time.time, detail=detail, **who)


@contextmanager
def acting(home: Path | None) -> Iterator[Acting]:
    """The local user at work on the server in ``home``. Raises InputError where none is set up."""
    from aggregator.admin import Operator

    with open_server(home) as (server, database):
        yield Acting(Operator(server, database=database), database, getpass.getuser())
