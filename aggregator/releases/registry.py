"""The releases of a fleet: what was published, in which state each one is and why, and the files by hash.

    candidate -> active -> retired
        |           |         |
        v           v         v
    rejected   rolled_back  active (again, by a rollback)

At most one release is active. A device asks for a manifest by release id and then only for files whose hash it lacks.
Nothing is stored that does not verify. The registry holds no private key: it cannot make a release, only keep and name one.

Every change of a release's state as one step of its rollout: from which state to which, by whom, to which share.

The registry numbers its changes in one transaction with the change itself, so that number names a step for good: whoever
copies steps elsewhere can always tell which are missing there.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aggregator.fleet.tables import Tables
from aggregator.releases.blobs import BlobFolder
from fedge.errors import InputError
from fedge.release import (
    FILE_NAMES,
    CertificateDocument,
    Manifest,
    Release,
    assemble_release,
    verify_release,
)

State = Literal["candidate", "active", "retired", "rejected", "rolled_back"]
Step = Literal["published", "canary", "promoted", "retired", "rejected", "withdrawn", "rolled_back", "reactivated"]
FEDGE = "fedge"
"""The actor where nobody asked: the rounds decide by themselves."""

QUERY = """
SELECT number, release_id, at, origin, state, share, reason, actor, CASE
    WHEN origin IS NULL THEN 'published'
    WHEN state = 'candidate' THEN 'canary'
    WHEN state = 'active' THEN CASE origin WHEN 'candidate' THEN 'promoted' ELSE 'reactivated' END
    WHEN state = 'rejected' AND release_id IN (SELECT release_id FROM canary) THEN 'withdrawn'
    ELSE state END AS step
FROM (
    SELECT *, lag(state) OVER (PARTITION BY release_id ORDER BY number) AS origin FROM move
    WHERE :release IS NULL OR release_id = :release
)
WHERE number > :after ORDER BY number
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step. ``origin`` None: it was not there before. ``share``: of the devices, while on the canary. ``actor`` None:
    from before that was kept. ``withdrawn``: rejected after devices may have run it.
    """

    number: int
    release_id: str
    at: float
    step: Step
    origin: State | None
    state: State
    share: float | None
    reason: str
    actor: str | None


def add_columns(tables: Tables) -> None:
    """Gives a registry from before who acted, and to which share, was kept the two columns; else changes nothing."""
    with tables.read() as connection:
        if _has_both(connection.execute("PRAGMA table_info(move)").fetchall()):
            return
    with tables.write() as connection:
        if not _has_both(connection.execute("PRAGMA table_info(move)").fetchall()):
            connection.execute("ALTER TABLE move ADD COLUMN share REAL")
            connection.execute("ALTER TABLE move ADD COLUMN actor TEXT")


def _has_both(columns: list[sqlite3.Row]) -> bool:
    return {"share", "actor"} <= {column["name"] for column in columns}


_MOVES: frozenset[tuple[State, State]] = frozenset(
    [
        ("candidate", "active"),
        ("candidate", "rejected"),
        ("active", "retired"),
        ("active", "rolled_back"),
        ("retired", "active"),
    ]
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS release (
    number INTEGER PRIMARY KEY,
    release_id TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    manifest BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_active ON release (state) WHERE state = 'active';
CREATE TABLE IF NOT EXISTS move (
    number INTEGER PRIMARY KEY,
    release_id TEXT NOT NULL REFERENCES release (release_id),
    state TEXT NOT NULL,
    at REAL NOT NULL,
    reason TEXT NOT NULL,
    share REAL,
    actor TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS certificate (
    number INTEGER PRIMARY KEY,
    release_id TEXT NOT NULL REFERENCES release (release_id),
    at REAL NOT NULL,
    document BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS canary (
    release_id TEXT PRIMARY KEY REFERENCES release (release_id),
    share REAL NOT NULL,
    at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS moves_of_a_release ON move (release_id, number);
CREATE INDEX IF NOT EXISTS certificates_of_a_release ON certificate (release_id, number);
"""


@dataclass(frozen=True, slots=True)
class Move:
    """One change of a release's state: its time (UNIX seconds), its reason, and who made it where that was kept."""

    release_id: str
    state: State
    at: float
    reason: str
    actor: str | None = FEDGE


@dataclass(frozen=True, slots=True)
class RegisteredRelease:
    """One line of the list of releases."""

    release_id: str
    version: int
    state: State
    has_certificate: bool
    """Whether a certificate document, of whatever state, is stored for it."""


@dataclass(frozen=True, slots=True)
class OnCanary:
    """A candidate that a share of the devices, in (0, 1], runs since ``at``."""

    release_id: str
    share: float
    at: float


class ReleaseRegistry:
    """Releases in a folder. Safe to use from several threads and processes at once."""

    def __init__(self, folder: Path, release_key: Ed25519PublicKey) -> None:
        self._key = release_key
        self._blobs = BlobFolder(folder / "files")
        self._tables = Tables(folder / "registry.sqlite", _SCHEMA)
        self._tables.create()
        add_columns(self._tables)

    # Putting releases in.

    def publish(self, release: Release, *, at: float, reason: str = "published") -> str:
        """Stores a verified release as a candidate and returns its id; publishing it again changes nothing.

        Raises VerificationError, and InputError for a version that is not above every one that was ever active.
        """
        verify_release(release, self._key)
        manifest, release_id = release.manifest.to_bytes(), release.release_id
        with self._tables.write() as connection:
            for name in FILE_NAMES:  # under the lock, so that ``prune`` cannot take them for leftovers; again after a prune
                self._blobs.put(release.files[name])
            if _state(connection, release_id) is not None:
                return release_id
            newest = connection.execute(
                "SELECT max(version) FROM release WHERE state IN ('active', 'retired', 'rolled_back')"
            ).fetchone()[0]
            if newest is not None and release.manifest.version <= newest:
                raise InputError(f"version {release.manifest.version} is not above {newest}, which was already active")
            connection.execute(
                "INSERT INTO release (release_id, version, state, manifest, signature) VALUES (?, ?, 'candidate', ?, ?)",
                (release_id, release.manifest.version, manifest, release.signature),
            )
            _record(connection, Move(release_id, "candidate", at, reason))
        return release_id

    def add_certificate(self, document: CertificateDocument, *, at: float) -> None:
        """Stores a certificate for a published release; the newest one counts. Raises VerificationError, InputError."""
        document.verify(self._key, document.release_id)
        with self._tables.write() as connection:
            _require_state(connection, document.release_id)
            connection.execute(
                "INSERT INTO certificate (release_id, at, document) VALUES (?, ?, ?)",
                (document.release_id, at, document.to_bytes()),
            )

    # Changing what the fleet runs.

    def promote(self, release_id: str, *, at: float, reason: str, actor: str = FEDGE) -> None:
        """Makes a candidate the active release. The one before retires; older candidates are rejected."""
        with self._tables.write() as connection:
            _require_state(connection, release_id, "candidate")
            active = _only(connection, "active")
            if active is not None:
                _move(connection, Move(active, "retired", at, f"replaced by {release_id[:12]}", actor))
            _move(connection, Move(release_id, "active", at, reason, actor))
            older = connection.execute(
                "SELECT release_id FROM release WHERE state = 'candidate' AND number < "
                "(SELECT number FROM release WHERE release_id = ?)",
                (release_id,),
            ).fetchall()
            for row in older:
                _move(connection, Move(row["release_id"], "rejected", at, f"superseded by {release_id[:12]}", actor))

    def put_on_canary(self, release_id: str, *, share: float, at: float, reason: str) -> None:
        """Gives a candidate to a share of the devices, or to a larger share than before. Raises InputError."""
        if not 0 < share <= 1:
            raise InputError(f"a canary's share is above 0 and at most 1, not {share}")
        with self._tables.write() as connection:
            _require_state(connection, release_id, "candidate")
            others = connection.execute(
                "SELECT release_id FROM canary JOIN release USING (release_id) "
                "WHERE state = 'candidate' AND release_id != ?",
                (release_id,),
            ).fetchall()
            for row in others:
                _move(connection, Move(row["release_id"], "rejected", at, f"superseded by {release_id[:12]} on the canary"))
            connection.execute(
                "INSERT INTO canary VALUES (?, ?, ?) "
                "ON CONFLICT (release_id) DO UPDATE SET share = max(share, excluded.share)",
                (release_id, share, at),
            )
            _record(connection, Move(release_id, "candidate", at, reason))

    def reject(self, release_id: str, *, at: float, reason: str, actor: str = FEDGE) -> None:
        """Marks a candidate as unfit. Raises InputError when it is not a candidate."""
        with self._tables.write() as connection:
            _require_state(connection, release_id, "candidate")
            _move(connection, Move(release_id, "rejected", at, reason, actor))

    def rollback(self, *, at: float, reason: str, actor: str = FEDGE) -> str:
        """Takes the active release back and makes the last retired one active again; returns its id. Raises InputError."""
        with self._tables.write() as connection:
            active = _only(connection, "active")
            row = connection.execute(
                "SELECT release_id FROM move WHERE state = 'active' AND release_id IN "
                "(SELECT release_id FROM release WHERE state = 'retired') ORDER BY number DESC LIMIT 1"
            ).fetchone()
            if active is None or row is None:
                raise InputError("there is no earlier release to go back to")
            manifest, _ = _manifest(connection, row["release_id"])
            if not all(digest in self._blobs for digest in Manifest.from_bytes(manifest).files.values()):
                raise InputError(f"the files of release {row['release_id'][:12]} were pruned: publish it again first")
            _move(connection, Move(active, "rolled_back", at, reason, actor))
            _move(connection, Move(row["release_id"], "active", at, f"rollback of {active[:12]}: {reason}", actor))
            return str(row["release_id"])

    # What devices and operators read.

    def active(self) -> str | None:
        """Id of the active release."""
        with self._tables.read() as connection:
            return _only(connection, "active")

    def canary(self) -> OnCanary | None:
        """The candidate that is on the canary, or None."""
        query = (
            "SELECT canary.release_id, share, at FROM canary JOIN release USING (release_id) "
            "WHERE state = 'candidate' ORDER BY release.number DESC"
        )
        with self._tables.read() as connection:
            row = connection.execute(query).fetchone()
        return None if row is None else OnCanary(row["release_id"], row["share"], row["at"])

    def withdrawn(self) -> list[str]:
        """Releases that devices may have run and that were taken back, in the order of publication."""
        query = (
            "SELECT release_id FROM release WHERE state = 'rolled_back' "
            "OR (state = 'rejected' AND release_id IN (SELECT release_id FROM canary)) ORDER BY number"
        )
        with self._tables.read() as connection:
            return [str(row["release_id"]) for row in connection.execute(query)]

    def latest_candidate(self) -> str | None:
        """Id of the candidate published last."""
        with self._tables.read() as connection:
            return _only(connection, "candidate")

    def manifest(self, release_id: str) -> tuple[bytes, bytes]:
        """A release's manifest and signature, as bytes for a device. Raises InputError for an unknown id."""
        with self._tables.read() as connection:
            _require_state(connection, release_id)
            return _manifest(connection, release_id)

    def file(self, sha256: str) -> bytes:
        """One file by the hash that a manifest lists. Raises InputError for an unknown hash."""
        return self._blobs.get(sha256)

    def has_files(self, release_id: str) -> bool:
        """Whether all files of a release are still stored: pruning removes those of old ones."""
        manifest, _ = self.manifest(release_id)
        return all(digest in self._blobs for digest in Manifest.from_bytes(manifest).files.values())

    def certificate(self, release_id: str) -> CertificateDocument | None:
        """The newest certificate document of a release, or None: then everything escalates."""
        query = "SELECT document FROM certificate WHERE release_id = ? ORDER BY number DESC LIMIT 1"
        with self._tables.read() as connection:
            row = connection.execute(query, (release_id,)).fetchone()
        return None if row is None else CertificateDocument.from_bytes(bytes(row["document"]))

    def release(self, release_id: str) -> Release:
        """A whole release, verified again. Raises InputError for an unknown id."""
        manifest, signature = self.manifest(release_id)
        files = {name: self.file(digest) for name, digest in Manifest.from_bytes(manifest).files.items()}
        return assemble_release(manifest, signature, files, release_key=self._key)

    def releases(self) -> list[RegisteredRelease]:
        """All releases in the order of publication."""
        with self._tables.read() as connection:
            rows = connection.execute(
                "SELECT release_id, version, state, "
                "EXISTS (SELECT 1 FROM certificate WHERE certificate.release_id = release.release_id) AS has_certificate "
                "FROM release ORDER BY number"
            ).fetchall()
        return [
            RegisteredRelease(row["release_id"], row["version"], row["state"], bool(row["has_certificate"])) for row in rows
        ]

    def history(self) -> list[Move]:
        """Every change of state ever made, oldest first."""
        with self._tables.read() as connection:
            rows = connection.execute("SELECT release_id, state, at, reason, actor FROM move ORDER BY number").fetchall()
        return [Move(**dict(row)) for row in rows]

    def last_moves(self, *, release_id: str | None = None) -> dict[str, Move]:
        """The last change of each release, or of one."""
        query = (
            "SELECT release_id, state, at, reason, actor FROM move WHERE number IN (SELECT max(number) FROM move "
            "WHERE :release IS NULL OR release_id = :release GROUP BY release_id)"
        )
        with self._tables.read() as connection:
            rows = connection.execute(query, {"release": release_id}).fetchall()
        return {row["release_id"]: Move(**dict(row)) for row in rows}

    def transitions(self, *, after: int = 0, release_id: str | None = None) -> list[Transition]:
        """The changes of state numbered above ``after``, of one release or of all, oldest first, each as a step."""
        with self._tables.read() as connection:
            rows = connection.execute(QUERY, {"after": after, "release": release_id}).fetchall()
        return [Transition(**dict(row)) for row in rows]

    def certificates(self, *, release_id: str | None = None) -> dict[str, CertificateDocument]:
        """The newest certificate document of each release that has one, or of one release."""
        query = (
            "SELECT document FROM certificate WHERE number IN (SELECT max(number) FROM certificate "
            "WHERE :release IS NULL OR release_id = :release GROUP BY release_id)"
        )
        with self._tables.read() as connection:
            rows = connection.execute(query, {"release": release_id}).fetchall()
        documents = [CertificateDocument.from_bytes(bytes(row["document"])) for row in rows]
        return {document.release_id: document for document in documents}

    def prune(self, *, keep: int) -> int:
        """Deletes the files that no candidate, no active release and none of the last ``keep`` published uses.

        Manifests, certificates and history stay. A pruned release cannot be rolled back to. Returns how many were deleted.
        """
        with self._tables.write() as connection:
            rows = connection.execute("SELECT state, manifest FROM release ORDER BY number DESC").fetchall()
            used = [row for i, row in enumerate(rows) if i < keep or row["state"] in ("candidate", "active")]
            digests = {digest for row in used for digest in Manifest.from_bytes(bytes(row["manifest"])).files.values()}
            return self._blobs.keep_only(digests)


def _state(connection: sqlite3.Connection, release_id: str) -> State | None:
    row = connection.execute("SELECT state FROM release WHERE release_id = ?", (release_id,)).fetchone()
    return None if row is None else row["state"]


def _manifest(connection: sqlite3.Connection, release_id: str) -> tuple[bytes, bytes]:
    query = "SELECT manifest, signature FROM release WHERE release_id = ?"
    row = connection.execute(query, (release_id,)).fetchone()
    return bytes(row["manifest"]), bytes(row["signature"])


def _only(connection: sqlite3.Connection, state: State) -> str | None:
    row = connection.execute("SELECT release_id FROM release WHERE state = ? ORDER BY number DESC", (state,)).fetchone()
    return None if row is None else str(row["release_id"])


def _require_state(connection: sqlite3.Connection, release_id: str, state: State | None = None) -> None:
    found = _state(connection, release_id)
    if found is None:
        raise InputError(f"no release {release_id[:64]!r} was published here")
    if state is not None and found != state:
        raise InputError(f"release {release_id[:12]} is {found}, not {state}")


def _move(connection: sqlite3.Connection, move: Move) -> None:
    found = _state(connection, move.release_id)
    if found is None or (found, move.state) not in _MOVES:
        raise InputError(f"release {move.release_id[:12]} cannot go from {found} to {move.state}")
    connection.execute("UPDATE release SET state = ? WHERE release_id = ?", (move.state, move.release_id))
    _record(connection, move)


def _record(connection: sqlite3.Connection, move: Move) -> None:
    connection.execute(
        "INSERT INTO move (release_id, state, at, reason, actor, share) VALUES (?, ?, ?, ?, ?, "
        "(SELECT share FROM canary WHERE release_id = ? AND ? = 'candidate'))",
        (move.release_id, move.state, move.at, move.reason, move.actor, move.release_id, move.state),
    )
