"""The application: which path is whose, and what all of them share.

`/health` and `/metrics`.
"""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edge_client.service import openai_routes, query_routes
from edge_client.service.context import Service
from edge_client.service.errors import HANDLERS
from edge_client.service.middleware import Guard


async def health(service: Service, request: Request) -> Response:
    """`GET /health`: 200 where the device can answer something, 503 where it cannot; what is missing stands in both."""
    state = await service.call(service.health)
    document = {"live": True, "ready": state.ready, "missing": dict(state.missing), **state.detail}
    return JSONResponse(document, status_code=200 if state.ready else 503)


async def metrics(service: Service, request: Request) -> Response:
    """`GET /metrics`: for Prometheus."""
    text = await service.call(service.figures.exposition)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


__all__ = ["Service", "create_app"]

Handler = Callable[[Service, Request], Awaitable[Response]]

_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/ask", query_routes.ask),
    ("POST", "/v1/ask/batch", query_routes.ask_batch),
    ("GET", "/v1/answers/{id}", query_routes.show),
    ("POST", "/v1/answers/{id}/correction", query_routes.correct),
    ("GET", "/v1/models", openai_routes.models),
    ("GET", "/v1/models/{model:path}", openai_routes.model),
    ("POST", "/v1/chat/completions", openai_routes.chat),
    ("POST", "/v1/embeddings", openai_routes.embeddings),
    ("GET", "/health", health),
    ("GET", "/metrics", metrics),
)


def create_app(service: Service) -> ASGIApp:
    """The local API of one agent. Listen with it on loopback only: see `edge_client.service.serve`."""
    routes = [Route(path, _bound(service, handler), methods=[method]) for method, path, handler in _ROUTES]
    return Starlette(routes=routes, middleware=[Middleware(Guard)], exception_handlers=HANDLERS)


def _bound(service: Service, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await handler(service, request)

    return endpoint
