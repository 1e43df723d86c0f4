"""Devices and releases as the pages show them. A recorded run has releases and no devices to speak of."""

from typing import Any

from aggregator.console.shell.context import Console
from aggregator.operator import step_entry
from aggregator.store.published import ReleaseLine


def devices(console: Console, *, start: int = 0, count: int | None = None) -> list[dict[str, Any]]:
    """Devices that joined, members first, then by id: all of them, or ``count`` from ``start`` on."""
    if console.operator is None:
        return []
    return console.operator.devices(members_first=True, start=start, count=count)


def releases(console: Console, *, only: str | None = None) -> list[dict[str, Any]]:
    """Every release, newest first, or the one of that id: what the rounds recorded of it, where it stands with the fleet."""
    rows = {row.release_id: row for row in console.database.published.lines(release_id=only)}
    operator = console.operator
    standing = {} if operator is None else {one["release"]: one for one in operator.releases(only=only)}
    found = [_release(release_id, rows.get(release_id), standing.get(release_id)) for release_id in {**rows, **standing}]
    return sorted(found, key=lambda one: one["version"], reverse=True)


def release(console: Console, release_id: str) -> dict[str, Any] | None:
    """One release, and how it reached the fleet, oldest step first; None for a stranger."""
    found = next(iter(releases(console, only=release_id)), None)
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
