"""The application: which path is whose, and what all of them share."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edge_client.service import asking, embeddings, openai
from edge_client.service.errors import HANDLERS
from edge_client.service.guard import Guard
from edge_client.service.health import health, metrics
from edge_client.service.state import Service

__all__ = ["Service", "create_app"]

Handler = Callable[[Service, Request], Awaitable[Response]]

_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/ask", asking.ask),
    ("POST", "/v1/ask/batch", asking.ask_batch),
    ("GET", "/v1/answers/{id}", asking.show),
    ("POST", "/v1/answers/{id}/correction", asking.correct),
    ("GET", "/v1/models", openai.models),
    ("GET", "/v1/models/{model:path}", openai.model),
    ("POST", "/v1/chat/completions", openai.chat),
    ("POST", "/v1/embeddings", embeddings.embeddings),
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
