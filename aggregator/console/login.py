"""Logging in and out. These routes alone are open to everyone who reaches the console.

Whatever is wrong with a name or a password, the answer is the same, after the same work.

Who is asking, and the API's own description. Programs log in with ``Authorization: Bearer`` and a token of an account.
"""

import logging
from typing import Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from aggregator.console.auth.dependencies import TheViewer, check_origin, check_token, check_visit, known_viewer
from aggregator.console.auth.oidc import RoleRefused
from aggregator.console.auth.tokens import csrf_token, new_token, path_within
from aggregator.console.context import Console, TheConsole
from aggregator.console.errors import refusal
from aggregator.console.forms import TheForm
from aggregator.console.templating import page
from fedge.errors import FedgeError

api = APIRouter(prefix="/api/v1")


@api.get("/session")
def session(viewer: TheViewer) -> dict[str, object]:
    """The caller's name and role. ``csrf`` goes into the header X-CSRF-Token of what a browser's session changes."""
    return {"name": viewer.name or None, "role": viewer.role, "may_act": viewer.may_act, "csrf": viewer.csrf or None}


@api.get("/openapi.json", include_in_schema=False)
def description(request: Request) -> dict[str, Any]:
    """Every route under /api/v1."""
    made: dict[str, Any] = request.app.openapi()
    return made


_log = logging.getLogger(__name__)
VISIT_S = 3600
OIDC_S = 600
MAX_TARGET = 1000
WRONG = "This name and password do not fit together, or the account is off."
pages = APIRouter(include_in_schema=False)


@pages.get("/login")
def login_page(request: Request, console: TheConsole, next: str = "/") -> Response:
    """The form; who is logged in already goes on."""
    viewer = known_viewer(request)
    if viewer is not None and viewer.is_logged_in:
        return RedirectResponse(path_within(next), 303)
    return _form(request, console, target=path_within(next))


@pages.post("/login")
def log_in(request: Request, console: TheConsole, form: TheForm) -> Response:
    """A name and a password. A new session begins, whatever cookies the browser brought."""
    check_visit(request, form, request.cookies.get(console.policy.visit_cookie, ""))
    name, target = form.get("name", "").strip(), path_within(form.get("next"))
    address = request.client.host if request.client else ""
    wait_s = console.limiter.try_again_in_s(name, address)
    if wait_s > 0:
        seconds = int(wait_s) + 1
        said = f"Too many tries that failed. Try again in {seconds} s."
        return _form(request, console, target=target, said=said, status=429, headers={"Retry-After": str(seconds)})
    token = console.accounts.log_in(name, form.get("password", ""))
    if token is None:
        _log.warning("a login as %r from %s failed", name[:64], address)
        return _form(request, console, target=target, said=WRONG, status=403)
    console.limiter.succeeded(name, address)
    return _begun(request, console, token, target, way="password")


@pages.post("/logout")
def log_out(request: Request, console: TheConsole, form: TheForm) -> Response:
    """The session ends here and in the store."""
    viewer = known_viewer(request)
    answer = RedirectResponse("/", 303)
    if viewer is not None and viewer.is_logged_in:
        check_origin(request)
        check_token(request, form, viewer)
        console.accounts.log_out(request.cookies.get(console.policy.session_cookie, ""))
        console.database.audit.append(at=console.clock(), actor=viewer.name, role=viewer.role.value, action="logout")
    _forget(console, answer, console.policy.session_cookie)
    return answer


@pages.get("/login/oidc")
def to_provider(request: Request, console: TheConsole, next: str = "/") -> Response:
    """To the OpenID provider, with a cookie that the way back must show."""
    if console.oidc is None:
        return refusal(request, 404, "no OpenID provider is configured on this console")
    cookie = new_token()
    try:
        target = console.oidc.authorization_url(cookie, _callback(request, console))
    except FedgeError as error:
        return refusal(request, 502, str(error))
    answer = RedirectResponse(target, 303)
    wanted = quote(path_within(next), safe="")
    value = f"{cookie}.{wanted if len(wanted) <= MAX_TARGET else ''}"
    _remember(console, answer, console.policy.oidc_cookie, value, OIDC_S)
    return answer


@pages.get("/login/oidc/callback")
def from_provider(request: Request, console: TheConsole) -> Response:
    """Back from the OpenID provider."""
    if console.oidc is None:
        return refusal(request, 404, "no OpenID provider is configured on this console")
    address = request.client.host if request.client else ""
    if console.limiter.try_again_in_s(f"OpenID Connect from {address}", address) > 0:  # each try makes the provider work
        return refusal(request, 429, "too many tries that failed: try again in a minute")
    cookie, _, target = request.cookies.get(console.policy.oidc_cookie, "").partition(".")
    try:
        if not cookie:
            raise RoleRefused("this login did not begin in this browser, or too long ago: log in again")
        identity = console.oidc.identity(cookie, _callback(request, console), dict(request.query_params))
        token = console.accounts.log_in_as(identity)
    except FedgeError as error:
        answer = refusal(request, 403, str(error))
    else:
        console.limiter.succeeded(f"OpenID Connect from {address}", address)
        answer = _begun(request, console, token, path_within(unquote(target)), way="OpenID Connect")
    _forget(console, answer, console.policy.oidc_cookie)
    return answer


def _form(
    request: Request,
    console: Console,
    *,
    target: str,
    said: str = "",
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    visit = request.cookies.get(console.policy.visit_cookie) or new_token()
    label = None if console.oidc is None else console.oidc.label
    values = {"target": target, "said": said, "oidc": label, "form_csrf": csrf_token(visit)}
    answer = page(request, "login.html", status=status, **values)
    answer.headers.update(headers or {})
    _remember(console, answer, console.policy.visit_cookie, visit, VISIT_S)
    return answer


def _begun(request: Request, console: Console, token: str, target: str, *, way: str) -> Response:
    """A browser with its new session, which the audit knows of; the one that it had before, if any, is over."""
    account = console.accounts.of_session(token)
    if account is None:  # shut out in this very moment
        return _form(request, console, target=target, said=WRONG, status=403)
    console.database.audit.append(
        at=console.clock(),
        actor=account.name,
        role=account.role.value,
        action="login",
        detail={"way": way, "address": request.client.host if request.client else ""},
    )
    before = request.cookies.get(console.policy.session_cookie)
    if before:
        console.accounts.log_out(before)
    answer = RedirectResponse(target, 303)
    _remember(console, answer, console.policy.session_cookie, token, int(console.policy.session_max_s))
    _forget(console, answer, console.policy.visit_cookie)
    return answer


def _callback(request: Request, console: Console) -> str:
    """The redirect that the provider must know; the host is one of this console's names, as is checked on each request."""
    scheme = "https" if console.policy.over_tls else "http"
    return f"{scheme}://{request.headers['host']}/login/oidc/callback"


def _remember(console: Console, answer: Response, name: str, value: str, seconds: int) -> None:
    answer.set_cookie(name, value, max_age=seconds, path="/", secure=console.policy.over_tls, httponly=True, samesite="lax")


def _forget(console: Console, answer: Response, name: str) -> None:
    answer.delete_cookie(name, path="/", secure=console.policy.over_tls, httponly=True, samesite="lax")
