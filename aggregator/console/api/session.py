"""Who is asking, and the API's own description. Programs log in with ``Authorization: Bearer`` and a token of an account."""

from typing import Any

from fastapi import APIRouter, Request

from aggregator.console.auth.viewer import TheViewer

router = APIRouter(prefix="/api/v1")


@router.get("/session")
def session(viewer: TheViewer) -> dict[str, object]:
    """The caller's name and role. ``csrf`` goes into the header X-CSRF-Token of what a browser's session changes."""
    return {"name": viewer.name or None, "role": viewer.role, "may_act": viewer.may_act, "csrf": viewer.csrf or None}


@router.get("/openapi.json", include_in_schema=False)
def description(request: Request) -> dict[str, Any]:
    """Every route under /api/v1."""
    made: dict[str, Any] = request.app.openapi()
    return made
