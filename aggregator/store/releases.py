"""Releases and their newest certificates as lists show them: without manifests and documents, which are long.

How each release reached the fleet, step by step: published, on the canary, promoted, taken back; by whom and why.

The registry of releases is what counts; these rows are its copy for operators, under the registry's own numbers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from aggregator.store.models import Certificate, Release, Rollout

Transaction = Callable[[str], AbstractContextManager[Session]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseLine:
    """A release in short; ``certificate`` is what its newest one says and when it was issued."""

    release_id: str
    version: int
    round: int
    parent: str | None
    published: float
    metrics: Mapping[str, Any]
    certificate: str | None
    certificate_issued: float | None


class Published:
    """Of one run. ``read`` begins a transaction for what is said in words."""

    def __init__(self, read: Transaction, run_id: int) -> None:
        self._read = read
        self._run_id = run_id

    def lines(self, *, release_id: str | None = None) -> list[ReleaseLine]:
        """All releases by version, or the one of that id."""
        columns = Release.release_id, Release.version, Release.round, Release.parent, Release.published, Release.metrics
        wanted = select(*columns).where(Release.run_id == self._run_id).order_by(Release.version)
        of_them = select(func.max(Certificate.id)).where(Certificate.run_id == self._run_id).group_by(Certificate.release_id)
        if release_id is not None:
            wanted = wanted.where(Release.release_id == release_id)
            of_them = of_them.where(Certificate.release_id == release_id)
        newest = select(Certificate.release_id, Certificate.state, Certificate.issued).where(Certificate.id.in_(of_them))
        with self._read("read the releases") as session:
            said = {release: (state, issued) for release, state, issued in session.execute(newest)}
            return [
                ReleaseLine(
                    release_id=row.release_id,
                    version=row.version,
                    round=row.round,
                    parent=row.parent,
                    published=row.published,
                    metrics=row.metrics or {},
                    certificate=said.get(row.release_id, (None, None))[0],
                    certificate_issued=said.get(row.release_id, (None, None))[1],
                )
                for row in session.execute(wanted)
            ]

    def newest_certificate(self) -> bytes | None:
        """The certificate document that was added last."""
        wanted = select(Certificate.document).where(Certificate.run_id == self._run_id)
        with self._read("read the newest certificate") as session:
            return session.scalar(wanted.order_by(Certificate.id.desc()).limit(1))

    def version(self, release_id: str) -> int | None:
        """A release's version; None for one that is not recorded."""
        wanted = select(Release.version).where(Release.run_id == self._run_id, Release.release_id == release_id)
        with self._read("read a release") as session:
            return session.scalar(wanted)


def metrics_of(manifest: bytes) -> dict[str, Any]:
    """What a manifest says was measured; nothing where it cannot be read."""
    try:
        found = json.loads(manifest).get("metrics")
    except (ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


_ROWS_AT_ONCE = 1_000
_ONCE = ["run_id", "number", "release_id", "at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """One step, as the registry has it under ``number``. ``origin``: the state before, None where it was not there yet;
    ``share`` of the devices while on the canary; ``actor``: an operator, or "fedge" itself; None: it was not kept.
    """

    number: int
    release_id: str
    at: float
    step: str
    origin: str | None
    state: str
    share: float | None
    reason: str
    actor: str | None


class RolloutStore:
    """Of one run. ``read`` and ``write`` begin a transaction for what is said in words."""

    def __init__(self, read: Transaction, write: Transaction, run_id: int) -> None:
        self._read = read
        self._write = write
        self._run_id = run_id

    def add(self, rows: Sequence[RolloutRow]) -> None:
        """Add steps, oldest first; one that is there (its number, release and time) stays as it is."""
        values = [{"run_id": self._run_id, **asdict(row)} for row in rows]
        if not values:
            return
        with self._write("add to the rollouts") as session:
            postgres = session.get_bind().dialect.name == "postgresql"
            added = (postgresql.insert(Rollout) if postgres else sqlite.insert(Rollout)).on_conflict_do_nothing(
                index_elements=_ONCE
            )
            for begin in range(0, len(values), _ROWS_AT_ONCE):
                session.execute(added, values[begin : begin + _ROWS_AT_ONCE])

    def newest(self) -> RolloutRow | None:
        """The step that was added last."""
        wanted = select(Rollout).where(Rollout.run_id == self._run_id).order_by(Rollout.id.desc()).limit(1)
        with self._read("read the newest rollout") as session:
            found = session.scalar(wanted)
            return None if found is None else _value(found)

    def of(self, release_id: str) -> list[RolloutRow]:
        """The steps of a release, oldest first."""
        wanted = select(Rollout).where(Rollout.run_id == self._run_id, Rollout.release_id == release_id)
        with self._read("read a rollout") as session:
            return [_value(row) for row in session.scalars(wanted.order_by(Rollout.id))]


def _value(row: Rollout) -> RolloutRow:
    return RolloutRow(**{name: getattr(row, name) for name in RolloutRow.__slots__})
