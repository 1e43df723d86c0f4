"""What the routes of a console share, kept at ``app.state.console``. No global: two consoles may live in one process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from aggregator.store import Database

if TYPE_CHECKING:
    from aggregator.console.auth.accounts import Accounts
    from aggregator.console.auth.limits import LoginLimiter
    from aggregator.console.auth.oidc import OidcLogin
    from aggregator.console.auth.policy import AccessPolicy


@dataclass(frozen=True, slots=True)
class Console:
    """One console: the store that it shows, what the server says of itself, the clock (UNIX seconds), its routes' paths."""

    database: Database
    about: Mapping[str, object]
    clock: Callable[[], float]
    paths: frozenset[str]
    policy: "AccessPolicy"
    accounts: "Accounts"
    limiter: "LoginLimiter"
    oidc: "OidcLogin | None"

    @property
    def not_private(self) -> str:
        """Why the sums of this federation hide nothing, in one sentence; empty where they do hide."""
        secagg = self.about.get("secagg")
        if secagg == "demo":
            return 'Fewer than 8 devices have to add up: these sums are not private ("secagg": "demo").'
        if secagg is False:
            return 'Updates are added up unmasked: these sums are not private ("secagg": false).'
        return ""


def console_of(request: Request) -> Console:
    """The console that a request belongs to. Also a FastAPI dependency, see ``TheConsole``."""
    return cast(Console, request.app.state.console)


TheConsole = Annotated[Console, Depends(console_of)]
