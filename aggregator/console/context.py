"""What the routes of a console share, kept at ``app.state.console``. No global: two consoles may live in one process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Annotated, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import Depends, Request

from aggregator.admin import Operator
from aggregator.store import Database
from aggregator.store.audit import AuditWatch
from fedge.costs import PriceBook
from fedge.identity import TrustRoot

if TYPE_CHECKING:
    from aggregator.console.auth.accounts import Accounts
    from aggregator.console.auth.oidc import OidcLogin
    from aggregator.console.auth.policy import AccessPolicy
    from aggregator.console.auth.rate_limit import LoginLimiter


MAX_READERS = 200
"""Of the stream of events at once: each asks the store every second."""


@dataclass(frozen=True, slots=True)
class Console:
    """One console: the store that it shows, what the server says of itself, the clock (UNIX seconds), its routes' paths.

    ``operator``: what can be decided about a live fleet; None over a recorded run, which has no devices to act on.
    """

    database: Database
    about: Mapping[str, object]
    clock: Callable[[], float]
    paths: frozenset[str]
    policy: "AccessPolicy"
    accounts: "Accounts"
    limiter: "LoginLimiter"
    oidc: "OidcLogin | None"
    audit: AuditWatch
    operator: Operator | None = None
    book: PriceBook = field(default_factory=PriceBook.load_default)
    readers: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MAX_READERS))

    @property
    def n_min(self) -> int | None:
        """The least devices whose sum is taken, where the server says so."""
        found = self.about.get("n_min")
        return found if isinstance(found, int) else None

    @property
    def round_key(self) -> Ed25519PublicKey | None:
        """The key that signs rounds, where it is at hand."""
        if self.operator is None:
            return None
        return TrustRoot.from_bytes(self.operator.home.trust.read_bytes()).round_key

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
