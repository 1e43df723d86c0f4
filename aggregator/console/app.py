"""The console as a FastAPI application: rounds as JSON and as one page. Reads the store; has no route that changes anything.

Every error is one JSON line, ``{"error": "..."}``, and every response carries the security headers. The interactive
documentation that FastAPI brings is off, since it loads scripts from elsewhere; its schema is at ``/api/v1/openapi.json``.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from aggregator.console import metrics, page
from aggregator.console.access import SECURITY_HEADERS, is_addressed_here
from aggregator.console.expiries import threshold_expiry
from aggregator.store import Database, StoreError
from aggregator.store.views import UnknownRoundError, round_document, round_entry


def create_app(
    database: Database,
    *,
    federation: Mapping[str, object] | None = None,
    expiries: Callable[[Database], Mapping[str, float]] = threshold_expiry,
) -> FastAPI:
    """The console over ``database``, which stays the caller's to close.

    ``federation``: what a live server says of itself; where its ``secagg`` is "demo", every page says so, too. ``expiries``:
    when what the server holds runs out, for `/metrics`.
    """
    about = dict(federation or {})
    app = FastAPI(title="fedge console", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    _guard(app)
    _say_errors(app)

    @app.get("/healthz")
    def health() -> dict[str, str]:
        """Answers once the database does."""
        database.config()
        return {"status": "ok"}

    @app.get("/metrics", include_in_schema=False)
    def figures() -> Response:
        """For Prometheus."""
        recorded = metrics.Recorded(
            rounds=database.rounds(),
            spent=database.spent_usd(),
            releases=database.releases(),
            expiries=expiries(database),
        )
        return Response(metrics.exposition(recorded), media_type=metrics.CONTENT_TYPE)

    @app.get("/api/v1/federation")
    def itself() -> dict[str, object]:
        """What the federation is called and asks, and whether its sums are private."""
        return about

    @app.get("/api/v1/rounds")
    def rounds() -> list[dict[str, Any]]:
        """All rounds in short, oldest first."""
        return [round_entry(row) for row in database.rounds()]

    @app.get("/api/v1/rounds/{number}")
    def one_round(number: int) -> dict[str, Any]:
        """One round with its sessions and who left them."""
        return round_document(database, number)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def index() -> str:
        """The page of rounds."""
        return page.render(database.rounds(), demo=about.get("secagg") == "demo")

    @app.get("/console.css", include_in_schema=False)
    def style() -> Response:
        """The page's style sheet."""
        return Response(page.style(), media_type="text/css")

    return app


def _guard(app: FastAPI) -> None:
    @app.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        if not is_addressed_here(request.headers.get("host", "")):
            return _error(400, "the console answers on this machine's loopback address only, such as http://127.0.0.1")
        response = await proceed(request)
        response.headers.update(SECURITY_HEADERS)
        return response


def _say_errors(app: FastAPI) -> None:
    @app.exception_handler(UnknownRoundError)
    def unknown_round(_: Request, error: UnknownRoundError) -> JSONResponse:
        return _error(404, str(error))

    @app.exception_handler(RequestValidationError)
    def unreadable(_: Request, error: RequestValidationError) -> JSONResponse:
        return _error(422, "; ".join(f"{found['loc'][-1]}: {found['msg']}" for found in error.errors()))

    @app.exception_handler(StoreError)
    def store_failed(_: Request, error: StoreError) -> JSONResponse:
        return _error(503, str(error))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}")

    @app.exception_handler(Exception)
    def failed(_: Request, __: Exception) -> JSONResponse:
        return _error(500, "the console failed; its log on standard error says why")


def _error(status: int, said: str) -> JSONResponse:
    return JSONResponse({"error": " ".join(said.split())}, status_code=status, headers=SECURITY_HEADERS)
