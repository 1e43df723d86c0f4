"""Who asks, for every route: ``current_viewer``; and who may act: ``require_operator``. FastAPI dependencies.

All routes but those of the login itself stand behind ``current_viewer``, and all that change something behind
``require_operator``: see ``aggregator.console.app``. A route that wants to know asks for ``TheViewer`` or ``TheOperator``.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from aggregator.console.auth.roles import Role
from aggregator.console.auth.tokens import csrf_token, same, token_hash
from aggregator.console.shell.context import console_of

LIVE = frozenset({"/api/v1/events/stream", "/fragments/at-hand"})
"""What open pages ask for without anyone's doing."""

# What proxies add: a request that has one comes from elsewhere, whatever address the connection has.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks. ``name`` is empty for whoever is on this machine; ``csrf`` where a browser's session stands behind it."""

    name: str
    role: Role
    csrf: str = ""

    @property
    def is_logged_in(self) -> bool:
        """Whether an account is known."""
        return bool(self.name)

    @property
    def may_act(self) -> bool:
        """Whether anything may be changed."""
        return self.is_logged_in and self.role is Role.OPERATOR


ANYONE_HERE = Viewer("", Role.VIEWER)


class LoginRequired(Exception):  # noqa: N818 - no failure, the way to the login page
    """Nobody is logged in, and this needs a login."""


def known_viewer(request: Request) -> Viewer | None:
    """Who asks, or None where nobody is logged in who would have to be. Looked up once a request."""
    if not hasattr(request.state, "viewer"):
        request.state.viewer = _looked_up(request)
    found: Viewer | None = request.state.viewer
    return found


def is_still_known(request: Request) -> bool:
    """Whether who asked may still look, as the store says now: for an answer that lasts."""
    return _looked_up(request) is not None


def current_viewer(request: Request) -> Viewer:
    """Who asks, and it is someone who may look. Raises LoginRequired."""
    found = known_viewer(request)
    if found is None:
        raise LoginRequired
    return found


TheViewer = Annotated[Viewer, Depends(current_viewer)]


def require_operator(viewer: TheViewer) -> Viewer:
    """Who asks, and it is someone who may act. Raises LoginRequired, or HTTPException for who may only look."""
    if not viewer.is_logged_in:
        raise LoginRequired
    if not viewer.may_act:
        raise HTTPException(403, f"{viewer.name} is a {viewer.role}: to act takes an operator")
    return viewer


TheOperator = Annotated[Viewer, Depends(require_operator)]


def may_read_figures(request: Request) -> None:
    """For Prometheus: its own bearer token (``console.metrics_token_file``), or whatever else lets someone look."""
    wanted = console_of(request).policy.metrics_hash
    given = _bearer(request)
    if wanted is None or given is None or not same(token_hash(given), wanted):
        current_viewer(request)


def _looked_up(request: Request) -> Viewer | None:
    console = console_of(request)
    token = _bearer(request)
    if token is not None:
        account = console.accounts.of_api_token(token)
        return None if account is None else Viewer(account.name, account.role)
    cookie = request.cookies.get(console.policy.session_cookie, "")
    by_itself = request.url.path in LIVE  # a page that is open and left alone must not keep its login alive
    account = console.accounts.of_session(cookie, is_sign_of_life=not by_itself) if cookie else None
    if account is not None:
        return Viewer(account.name, account.role, csrf_token(cookie))
    is_from_here = console.policy.is_open and not any(name in request.headers for name in _FORWARDED)
    return ANYONE_HERE if is_from_here else None


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
