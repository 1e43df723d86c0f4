"""The page of releases, and the page of one."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from aggregator.admin import step_entry
from aggregator.console.context import Console, TheConsole
from aggregator.console.templating import page
from aggregator.store.releases import ReleaseLine

SHOWN = 200  # releases on the page, the newest
pages = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/v1")


@pages.get("/releases")
def releases_page(request: Request, console: TheConsole) -> Response:
    """As it stands now."""
    return page(request, "releases.html", releases=release_list(console)[:SHOWN], live=console.operator is not None)


@pages.get("/releases/{release}")
def one_release(request: Request, console: TheConsole, release: str) -> Response:
    """One release."""
    found = release_detail(console, release)
    if found is None:
        raise HTTPException(404, f"no release {release[:64]} is recorded")
    return page(request, "release.html", one=found)


def release_list(console: Console, *, only: str | None = None) -> list[dict[str, Any]]:
    """Every release, newest first, or the one of that id: what the rounds recorded of it, where it stands with the fleet."""
    rows = {row.release_id: row for row in console.database.published.lines(release_id=only)}
    operator = console.operator
    standing = {} if operator is None else {one["release"]: one for one in operator.releases(only=only)}
    found = [_release(release_id, rows.get(release_id), standing.get(release_id)) for release_id in {**rows, **standing}]
    return sorted(found, key=lambda one: one["version"], reverse=True)


def release_detail(console: Console, release_id: str) -> dict[str, Any] | None:
    """One release, and how it reached the fleet, oldest step first; None for a stranger."""
    found = next(iter(release_list(console, only=release_id)), None)
    if found is None:
        return None
    return {**found, "history": [step_entry(step) for step in console.database.rollouts.of(release_id)]}


def _release(release_id: str, row: ReleaseLine | None, standing: dict[str, Any] | None) -> dict[str, Any]:
    there = standing or {}
    return {
        "release": release_id,
        "version": row.version if row is not None else there.get("version", 0),
        "round": None if row is None else row.round,
        "parent": None if row is None else row.parent,
        "published": None if row is None else row.published,
        "metrics": {} if row is None else dict(row.metrics),
        "certificate": None if row is None else row.certificate,
        "certificate_issued": None if row is None else row.certificate_issued,
        "state": there.get("state"),
        "channel": there.get("channel"),
        "share": there.get("share"),
        "since": there.get("since"),
        "reason": there.get("reason"),
    }


@api.get("/releases", response_model=list[dict[str, Any]])
def list_releases(console: TheConsole) -> Response:
    """Every release, newest first: metrics, certificate, channel, and why it stands there."""
    return JSONResponse(release_list(console))  # as above: of a thousand, the walk takes longer than all the rest


@api.get("/releases/{release}")
def get_release(console: TheConsole, release: str) -> dict[str, Any]:
    """One release with its ``history``: each step of its rollout, oldest first: from where to where, by whom and why."""
    found = release_detail(console, release)
    if found is None:
        raise HTTPException(404, f"no release {release[:64]} is recorded")
    return found
