"""Devices and releases as the pages show them. A recorded run has releases and no devices to speak of."""

import json
from typing import Any

from aggregator.console.shell.context import Console
from aggregator.store import CertificateRow, ReleaseRow


def devices(console: Console, *, start: int = 0, count: int | None = None) -> list[dict[str, Any]]:
    """Devices that joined, members first, then by id: all of them, or ``count`` from ``start`` on."""
    if console.operator is None:
        return []
    return console.operator.devices(members_first=True, start=start, count=count)


def releases(console: Console) -> list[dict[str, Any]]:
    """Every release, newest first: what the rounds recorded of it, and where it stands with the fleet."""
    rows = {row.release_id: row for row in console.database.releases()}
    certificates = {row.release_id: row for row in console.database.certificates()}
    standing = {} if console.operator is None else {one["release"]: one for one in console.operator.releases()}
    found = [
        _release(release_id, rows.get(release_id), certificates.get(release_id), standing.get(release_id))
        for release_id in {**rows, **standing}
    ]
    return sorted(found, key=lambda one: one["version"], reverse=True)


def _release(
    release_id: str, row: ReleaseRow | None, certificate: CertificateRow | None, standing: dict[str, Any] | None
) -> dict[str, Any]:
    manifest = {} if row is None else json.loads(row.manifest)
    there = standing or {}
    return {
        "release": release_id,
        "version": row.version if row is not None else there.get("version", 0),
        "round": None if row is None else row.round,
        "parent": None if row is None else row.parent,
        "published": None if row is None else row.published,
        "metrics": manifest.get("metrics", {}),
        "certificate": None if certificate is None else certificate.state,
        "certificate_issued": None if certificate is None else certificate.issued,
        "state": there.get("state"),
        "channel": there.get("channel"),
        "share": there.get("share"),
        "since": there.get("since"),
        "reason": there.get("reason"),
    }
