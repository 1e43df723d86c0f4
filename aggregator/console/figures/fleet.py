"""Devices and releases as the pages show them. A recorded run has releases and no devices to speak of."""

from collections import Counter
from typing import Any, TypedDict

from aggregator.console.shell.context import Console
from aggregator.fleet.census import EVERYONE, Wanted
from aggregator.operator import Operator, step_entry
from aggregator.store.published import ReleaseLine
from fedge.errors import FedgeError


class Fleet(TypedDict):
    """How the members stand that reported lately, by their own word."""

    members: int
    reporting: int
    silent: int
    on_active_release: int
    share_on_active_release: float | None
    devices_on_version: dict[str, int]
    energy_sources: dict[str, int]
    energy_measured: int
    queue: int
    waiting: int


def devices(
    console: Console, wanted: Wanted = EVERYONE, *, start: int = 0, count: int | None = None
) -> list[dict[str, Any]]:
    """Devices that joined, members first, then by id: all that are ``wanted``, or ``count`` from ``start`` on."""
    if console.operator is None:
        return []
    return console.operator.devices(wanted, members_first=True, start=start, count=count)


def standing(console: Console) -> Fleet | None:
    """What devices say of themselves, added up; None over a recorded run. A release that was never made here counts as
    version "unknown", none at all as "none".
    """
    if console.operator is None:
        return None
    found = console.operator.standing()
    registered = _versions(console.operator) if found.releases else {}
    by_version: Counter[str] = Counter()
    for release, number in found.releases.items():
        by_version[registered.get(release, "unknown") if release else "none"] += number
    active = active_release(console)
    on_active = found.releases.get(active, 0) if active is not None else 0
    return {
        "members": found.members,
        "reporting": found.reporting,
        "silent": found.silent,
        "on_active_release": on_active,
        "share_on_active_release": on_active / found.reporting if found.reporting and active is not None else None,
        "devices_on_version": dict(sorted(by_version.items())),
        "energy_sources": dict(found.supplies),
        "energy_measured": found.measured,
        "queue": found.queue,
        "waiting": found.waiting,
    }


def active_release(console: Console) -> str | None:
    """What devices should run, where that is known."""
    if console.operator is None:
        return None
    try:
        return console.operator.registry().active()
    except FedgeError:
        return None


def _versions(operator: Operator) -> dict[str, str]:
    """Versions by release."""
    try:
        return {one.release_id: str(one.version) for one in operator.registry().releases()}
    except FedgeError:
        return {}


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
