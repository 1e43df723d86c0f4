"""`/health` and `/metrics`."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge_client.service.state import Service


async def health(service: Service, request: Request) -> Response:
    """`GET /health`: 200 where the device can answer something, 503 where it cannot; what is missing stands in both."""
    state = await service.call(service.health)
    document = {"live": True, "ready": state.ready, "missing": dict(state.missing), **state.detail}
    return JSONResponse(document, status_code=200 if state.ready else 503)


async def metrics(service: Service, request: Request) -> Response:
    """`GET /metrics`: for Prometheus."""
    text = await service.call(service.figures.exposition)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
