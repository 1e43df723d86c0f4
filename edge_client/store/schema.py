"""The tables of a device's database and its schema version. A file of a newer version is refused, an older one is migrated.

Ids grow for ever (AUTOINCREMENT), so that "everything up to this id" keeps its meaning while rows are added and old ones go.
"""

import sqlite3

from edge_client.store.contributions import CONTRIBUTION_TABLES
from edge_client.store.ledger import ALLOWANCE_TABLES
from edge_client.store.releases import HEALTH_TABLES
from edge_client.store.training import TRAINING_TABLES
from fedge.errors import InputError

_FIRST = """
CREATE TABLE fates (
    content_hash BLOB PRIMARY KEY,
    probe INTEGER NOT NULL,
    counted INTEGER NOT NULL DEFAULT 0,
    first_seen REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE memory (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    content_hash BLOB NOT NULL UNIQUE,
    query BLOB NOT NULL,
    label TEXT NOT NULL,
    distribution BLOB,
    source TEXT NOT NULL CHECK (source IN ('central', 'upstream', 'correction')),
    at REAL NOT NULL,
    used INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE probes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    content_hash BLOB NOT NULL UNIQUE,
    query BLOB NOT NULL,
    central_label TEXT NOT NULL,
    predicted_label TEXT NOT NULL,
    confidence REAL NOT NULL,
    release_id TEXT NOT NULL,
    publication INTEGER NOT NULL,
    would_stay_local INTEGER NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0,
    at REAL NOT NULL
) STRICT;

CREATE TABLE ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    payer TEXT NOT NULL,
    kind TEXT NOT NULL,
    quantity REAL NOT NULL,
    unit TEXT NOT NULL,
    price_usd REAL NOT NULL,
    amount_usd REAL NOT NULL
) STRICT;

CREATE INDEX ledger_paid ON ledger (at) WHERE kind IN ('escalations', 'probes');

CREATE TABLE ledger_days (
    day INTEGER NOT NULL,
    payer TEXT NOT NULL,
    kind TEXT NOT NULL,
    unit TEXT NOT NULL,
    price_usd REAL NOT NULL,
    quantity REAL NOT NULL,
    amount_usd REAL NOT NULL,
    PRIMARY KEY (day, payer, kind, unit, price_usd)
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    slot TEXT PRIMARY KEY,
    state BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE accepted (
    federation TEXT PRIMARY KEY,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE spent_updates (
    update_hash BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE installed (
    slot INTEGER PRIMARY KEY CHECK (slot = 1),
    release_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    certificate BLOB,
    publication INTEGER NOT NULL
) STRICT;

CREATE TABLE outbox (
    content_hash BLOB PRIMARY KEY,
    query BLOB NOT NULL,
    idempotency_key TEXT NOT NULL,
    release_id TEXT NOT NULL,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    content_hash BLOB NOT NULL,
    query BLOB NOT NULL,
    answer TEXT,
    answered_by TEXT NOT NULL,
    probe INTEGER NOT NULL,
    at REAL NOT NULL
) STRICT;
"""

_SOURCES = """
ALTER TABLE ledger ADD COLUMN source TEXT NOT NULL DEFAULT '';
UPDATE ledger SET source = 'model' WHERE kind LIKE 'device%' AND unit = 'J';
ALTER TABLE ledger_days RENAME TO ledger_days_1;
CREATE TABLE ledger_days (
    day INTEGER NOT NULL,
    payer TEXT NOT NULL,
    kind TEXT NOT NULL,
    unit TEXT NOT NULL,
    price_usd REAL NOT NULL,
    quantity REAL NOT NULL,
    amount_usd REAL NOT NULL,
    source TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (day, payer, kind, unit, price_usd, source)
) STRICT, WITHOUT ROWID;
INSERT INTO ledger_days
    SELECT day, payer, kind, unit, price_usd, quantity, amount_usd,
           CASE WHEN kind LIKE 'device%' AND unit = 'J' THEN 'model' ELSE '' END
    FROM ledger_days_1;
DROP TABLE ledger_days_1;
"""

_QUEUE = """
ALTER TABLE outbox ADD COLUMN learn INTEGER NOT NULL DEFAULT 1;
ALTER TABLE outbox ADD COLUMN acknowledged INTEGER NOT NULL DEFAULT 0;

CREATE TABLE outbox_size (
    slot INTEGER PRIMARY KEY CHECK (slot = 1),
    questions INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;

INSERT INTO outbox_size SELECT 1, count(*), coalesce(sum(length(query)), 0) FROM outbox;

CREATE TRIGGER outbox_grows AFTER INSERT ON outbox BEGIN
    UPDATE outbox_size SET questions = questions + 1, bytes = bytes + length(new.query);
END;

CREATE TRIGGER outbox_shrinks AFTER DELETE ON outbox BEGIN
    UPDATE outbox_size SET questions = questions - 1, bytes = bytes - length(old.query);
END;

CREATE TABLE waiting (
    answer_id INTEGER PRIMARY KEY,
    content_hash BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'answered', 'refused', 'expired')),
    label TEXT,
    answered_by TEXT,
    price_usd REAL,
    at REAL NOT NULL
) STRICT;

CREATE INDEX waiting_queued ON waiting (content_hash) WHERE state = 'queued';
"""

MIGRATIONS = (_FIRST, _QUEUE, HEALTH_TABLES, _SOURCES, ALLOWANCE_TABLES, CONTRIBUTION_TABLES, TRAINING_TABLES)
"""Each brings the database from its own place in this list to the next version."""

SCHEMA_VERSION = len(MIGRATIONS)


def prepare(connection: sqlite3.Connection) -> None:
    """Bring the database, empty or of an older version, to this one. Raises InputError for any other."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    foreign = version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,)
    if foreign or version > SCHEMA_VERSION:
        raise InputError(
            f"the device database has schema version {version}, this fedge reads up to {SCHEMA_VERSION}: "
            "use the fedge that wrote it, or start with a new state folder"
        )
    steps = "".join(MIGRATIONS[version:])
    connection.executescript(f"BEGIN; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
