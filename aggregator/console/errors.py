"""Errors as answers: a page for a browser that asked for one, one JSON line ``{"error": "..."}`` for everyone else.

Nothing of the inside is told: what a defect was stands on the server's standard error alone.
"""

from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from aggregator.console.auth.dependencies import LoginRequired
from aggregator.console.auth.tokens import path_within
from aggregator.console.security_headers import SECURITY_HEADERS
from aggregator.console.templating import page
from aggregator.store import StoreError
from aggregator.store.serializers import UnknownRoundError
from fedge.errors import InputError

_MACHINES = ("/api/", "/healthz", "/metrics")
_TITLES = {
    400: "This cannot be read",
    401: "Log in first",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    422: "Something is missing",
    429: "Too many tries",
    502: "The login provider does not answer",
    503: "The database does not answer",
}


def wants_page(request: Request) -> bool:
    """Whether an answer should be HTML: a browser asks for it, and the path is not a program's."""
    if request.url.path.startswith(_MACHINES):
        return False
    return "text/html" in request.headers.get("accept", "") or request.headers.get("hx-request") == "true"


def refusal(request: Request, status: int, said: str, headers: dict[str, str] | None = None) -> Response:
    """One refused request, in the form that its caller reads; ``said`` is one line of plain text."""
    line = " ".join(said.split())
    answer: Response
    if wants_page(request):
        title = _TITLES.get(status, "The console failed" if status >= 500 else "This is refused")
        answer = page(request, "error.html", status=status, title=title, said=line)
    else:
        answer = JSONResponse({"error": line}, status_code=status)
    answer.headers.update(headers or {})
    return answer


def say_errors(app: FastAPI) -> None:
    """Make every error of ``app`` an answer of the kind that this module describes."""

    @app.exception_handler(UnknownRoundError)
    def unknown_round(request: Request, error: UnknownRoundError) -> Response:
        return refusal(request, 404, str(error))

    @app.exception_handler(InputError)
    def wrong(request: Request, error: InputError) -> Response:
        return refusal(request, 422, str(error))

    @app.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> Response:
        return refusal(request, 422, "; ".join(f"{found['loc'][-1]}: {found['msg']}" for found in error.errors()))

    @app.exception_handler(LoginRequired)
    def login_first(request: Request, _: LoginRequired) -> Response:
        asked = f"{request.url.path}{f'?{request.url.query}' if request.url.query else ''}"
        target = f"/login?next={quote(asked if request.method == 'GET' else '/', safe='')}"
        if request.headers.get("hx-request") == "true":  # a part of a page: the whole page goes to the login
            shown = urlsplit(request.headers.get("hx-current-url", ""))
            back = quote(path_within(f"{shown.path}{f'?{shown.query}' if shown.query else ''}"), safe="")
            return Response(status_code=401, headers={"HX-Redirect": f"/login?next={back}"})
        if wants_page(request):
            return RedirectResponse(target, 303)
        return refusal(request, 401, "log in first, or send a bearer token", {"WWW-Authenticate": "Bearer"})

    @app.exception_handler(StoreError)
    def store_failed(request: Request, error: StoreError) -> Response:
        return refusal(request, 503, str(error))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        said = f"{request.method} {request.url.path}: {error.detail}"
        return refusal(request, error.status_code, said, dict(error.headers or {}))

    @app.exception_handler(Exception)
    def failed(request: Request, __: Exception) -> Response:
        # Answered outside of the layer that adds headers to all others.
        headers = {**SECURITY_HEADERS, "Cache-Control": "no-store"}
        return refusal(request, 500, "the console failed; its log on standard error says why", headers)
