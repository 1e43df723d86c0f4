"""Who asks, for every route: ``current_viewer``; and who may act: ``require_operator``. FastAPI dependencies.

All routes but those of the login itself stand behind ``current_viewer``, and all that change something behind
``require_operator``: see ``aggregator.console.app``. A route that wants to know asks for ``TheViewer`` or ``TheOperator``.

Against other sites that would use a browser's login (CSRF): every request that changes something shows that it is ours.

By where it comes from, as the browser says (Fetch metadata, Origin), and by a token that the console's own pages alone can
read: in the field ``csrf`` of a form, or in the header ``X-CSRF-Token``, which htmx sends. A bearer token needs neither: no
browser adds one by itself.
"""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from aggregator.console.auth.policy import Role
from aggregator.console.auth.tokens import csrf_token, same, token_hash
from aggregator.console.context import console_of
from aggregator.console.forms import TheForm

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


SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FIELD, HEADER = "csrf", "X-CSRF-Token"


def acts_by_operators_only(request: Request, form: TheForm) -> None:
    """On every route: what changes something takes an operator, and no other site's page. Raises HTTPException."""
    if request.method in SAFE:
        return
    viewer = require_operator(current_viewer(request))
    check_origin(request)
    check_token(request, form, viewer)


def check_token(request: Request, form: TheForm, viewer: Viewer) -> None:
    """The token of a session. Raises HTTPException."""
    if viewer.csrf and not same(form.get(FIELD) or request.headers.get(HEADER, ""), viewer.csrf):
        raise HTTPException(403, "this form is not of your present login: reload the page and try again")


def check_visit(request: Request, form: TheForm, cookie: str) -> None:
    """The token of a browser that is not logged in yet, from its visit's cookie. Raises HTTPException."""
    check_origin(request)
    if not cookie or not same(form.get(FIELD, ""), csrf_token(cookie)):
        raise HTTPException(403, "this form is not of this browser, or its cookies are off: reload the page and try again")


def check_origin(request: Request) -> None:
    """Where the browser says that the request comes from, as far as it says so. Raises HTTPException."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "").lower()
    if site not in ("same-origin", "none") or (origin is not None and urlsplit(origin).netloc.lower() != host):
        raise HTTPException(403, "another site asked for this")
