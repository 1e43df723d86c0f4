"""A large fleet with a long past, written in bulk: what `console_scale` looks at through the console.

The tables are the server's own. The first round's rows of the ledger go through ``Database.add_ledger``; the other rounds
are copies of it made inside the database, rows and sums alike.
"""

import hashlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, insert, literal, select, text

from aggregator.fleet.authority import Authority
from aggregator.fleet.heartbeat import Report, keep_reports
from aggregator.fleet.keys import AggregatorKeys
from aggregator.releases.publication import RolloutRecord
from aggregator.releases.registry import ReleaseRegistry
from aggregator.settings import ServerHome
from aggregator.store import Database, models
from aggregator.store.engine import open_engine
from aggregator.store.releases import metrics_of
from fedge.costs import Kind, LedgerEntry, Payer
from fedge.presence import Presence, Supply
from fedge.release import CertificateDocument
from fedge.routing.certificate import GridTest, clopper_pearson_upper
from fedge.routing.running import RunningBound
from fedge.routing.statement import CertificateStatement, statement
from fedge.secagg import keys
from fedge.usage import NAMES
from protos.fedge.secagg.v1 import secagg_pb2 as pb

Say = Callable[[str], None]
SESSIONS = 3  # of a round
DROPOUTS = 10  # of a round
PURPOSES = ("update", "counts", "usage")
COHORT, SURVIVORS = 32, 29
PHASES = ("select", "train", "keys", "shares", "masked_upload", "consistency", "unmask", "evaluate", "publish")
PERIOD_S = 3600.0
ROUNDS_AT_ONCE = 50
ROWS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much there is of everything."""

    devices: int = 10_000
    rounds: int = 1_000
    ledger_rows: int = 10_000_000
    events: int = 15_000
    acts: int = 5_000


def make_home(home: ServerHome, size: Size, *, now: float, say: Say) -> AggregatorKeys:
    """A server's folder with its authority, devices and releases. Returns its keys."""
    home.folder.mkdir(parents=True)
    home.settings_file.write_text('federation = "scale"\n', encoding="utf-8")
    ours = AggregatorKeys.open(home.keys)
    release_key, round_key = ours.release.public_key(), ours.round.public_key()
    authority = Authority.found(home.authority, name="scale", release_key=release_key, round_key=round_key, now=now)
    home.trust.write_bytes(authority.trust().to_bytes())
    authority.devices()  # makes both tables
    with closing(sqlite3.connect(home.authority / "enrolment.sqlite")) as connection, connection:
        connection.executemany("INSERT INTO device VALUES (?, ?, ?, ?, ?, ?, ?)", _devices(size, now))
        connection.executemany("INSERT INTO member VALUES (?, ?, ?, ?, ?)", _members(size, now))
        keep_reports(connection, _reports(size, now))
    say(f"{size.devices} devices")
    ReleaseRegistry(home.registry, release_key)
    with closing(sqlite3.connect(home.registry / "registry.sqlite")) as connection, connection:
        numbers = range(1, size.rounds + 1)
        states = [(number, "retired" if number < size.rounds else "active") for number in numbers]
        connection.executemany(
            "INSERT INTO release (release_id, version, state, manifest, signature) VALUES (?, ?, ?, ?, ?)",
            [(release_id(number), number, state, _manifest(number), bytes(64)) for number, state in states],
        )
        moves = [move for number in numbers for move in _moves(number, size, now)]
        connection.executemany(
            "INSERT INTO move (release_id, state, at, reason, share, actor) VALUES (?, ?, ?, ?, ?, 'fedge')", moves
        )
        certificates = [
            (release_id(number), started(number, size, now), _certificate(number, size, now, ours.release))
            for number in numbers
        ]
        connection.executemany("INSERT INTO certificate (release_id, at, document) VALUES (?, ?, ?)", certificates)
        connection.executemany("INSERT INTO canary VALUES (?, 0.2, ?)", [one[:2] for one in certificates])
    say(f"{size.rounds} releases with their rollouts and certificates")
    return ours


def fill(url: str, size: Size, ours: AggregatorKeys, registry: ReleaseRegistry, *, now: float, say: Say) -> None:
    """Rounds, their sessions, cohorts, phases and records, releases, events, audit and ledger, into an empty database."""
    with Database.open(url) as database:
        run_id = 1
        engine = open_engine(url)
        try:
            for table, rows in _tables(size, ours, now):
                while some := list(islice(rows, ROWS_AT_ONCE)):
                    with engine.begin() as connection:
                        connection.execute(insert(table), [{"run_id": run_id, **row} for row in some])
            RolloutRecord(registry, lambda: nullcontext(database)).catch_up(database)
            say("rounds, sessions, cohorts, phases, records, releases, certificates, rollouts and events")
            for number in range(size.acts):
                database.audit.append(
                    at=now - size.acts + number, actor="ada", role="operator", action="rounds.start", reason="a new batch"
                )
            say(f"{size.acts} acts in the audit")
            each, more = divmod(size.ledger_rows, size.rounds)
            database.add_ledger(1, _ledger(each, at=started(1, size, now)))
            _copy_ledger(engine, size.rounds, say)
            database.add_ledger(size.rounds, _ledger(more, at=now))
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("ANALYZE"))
        finally:
            engine.dispose()


def release_id(number: int) -> str:
    """The id of the release of a round."""
    return hashlib.sha256(b"release %d" % number).hexdigest()


def device_id(number: int) -> str:
    """The id of a device."""
    return f"device-{number:06d}"


def started(number: int, size: Size, now: float) -> float:
    """When a round began; the newest one an hour ago."""
    return now - PERIOD_S * (size.rounds - number + 1)


def _devices(size: Size, now: float) -> Iterator[tuple[Any, ...]]:
    for number in range(size.devices):
        revoked = number % 100 == 7
        gone = (now - 60.0, "lost") if revoked else (None, None)
        key = hashlib.sha256(b"device %d" % number).digest()
        yield device_id(number), key, now - 86_400.0 * 90, now + (3600.0 if number % 5 else -3600.0), 90, *gone


def _members(size: Size, now: float) -> Iterator[tuple[Any, ...]]:
    for number in range(size.devices):
        yield device_id(number), hashlib.sha512(b"tls %d" % number).digest(), "node key " * 20, 1, now - number % 3600


def _reports(size: Size, now: float) -> dict[str, Report]:
    """Of nine devices in ten, over the last minute; most of them answer with the newest release."""
    supplies: tuple[Supply, ...] = ("unknown", "mains", "battery")
    return {
        device_id(number): Report(
            now - number % 60,
            Presence(
                release=release_id(size.rounds if number % 10 != 1 else max(1, size.rounds - 1 - number % 7)),
                supply=supplies[number % 3],
                profile="raspberry-pi-4",
                queue=number % 7 if number % 11 == 0 else 0,
                fedge="0.1.0",
            ),
        )
        for number in range(size.devices)
        if number % 10 != 3
    }


def _manifest(number: int) -> bytes:
    """As long as a real one of digits, whose self-test is most of it."""
    metrics = {"device_accuracy": 0.9, "central_accuracy": 0.95, "int8_agreement": 0.995}
    logits = [[math.sin(number + 10.0 * query + label) for label in range(10)] for query in range(50)]
    return json.dumps({"metrics": metrics, "self_test": {"logits": logits}, "version": number}).encode()


def _moves(number: int, size: Size, now: float) -> Iterator[tuple[Any, ...]]:
    """A release's way: published, on the canary, widened, promoted, and retired by the next one."""
    release, begin = release_id(number), started(number, size, now)
    yield release, "candidate", begin, "published", None
    yield release, "candidate", begin + 1.0, "published without a certificate; canary: 10% of the devices first", 0.1
    yield release, "candidate", begin + 1200.0, "canary: no device took it in its time: 20%", 0.2
    yield release, "active", begin + 2400.0, "canary: 31 devices took it, 0 gave it up, 0 of 912 queries failed", None
    if number < size.rounds:
        yield release, "retired", begin + PERIOD_S + 2400.0, f"replaced by {release_id(number + 1)[:12]}", None


def _certificate(number: int, size: Size, now: float, key: Ed25519PrivateKey) -> bytes:
    """A real one over 1,500 probes, signed."""
    at = int(started(number, size, now))
    said = replace(
        _first_statement(), release_id=release_id(number), round=number, issued_at=at, expires_at=at + 14 * 86_400
    )
    return CertificateDocument.sign(key, release_id(number), said.to_bytes()).to_bytes()


@cache
def _first_statement() -> CertificateStatement:
    return statement(
        release_id=release_id(0),
        round=0,
        grid=GridTest(7, 0.7, 300, 3, clopper_pearson_upper(3, 300, 1 - 0.95), 8),
        running=RunningBound(1500, 45),
        max_risk=0.05,
        tolerance=0.05,
        confidence=0.95,
        probes_are_new=True,
        probe_rate=0.02,
        issued_at=0,
        expires_at=1,
    )


def _tables(size: Size, ours: AggregatorKeys, now: float) -> Iterator[tuple[Any, Iterator[dict[str, Any]]]]:
    numbers = range(1, size.rounds + 1)
    yield models.Round, (_round(number, started(number, size, now)) for number in numbers)
    yield models.Attempt, (row for number in numbers for row in _attempts(number, started(number, size, now)))
    yield models.Cohort, (row for number in numbers for row in _cohort(number, size))
    yield models.Dropout, (_dropout(number, place, size) for number in numbers for place in range(DROPOUTS))
    yield models.RoundPhase, (row for number in numbers for row in _phases(number, started(number, size, now)))
    yield models.Record, (_record(number, one, ours.round) for number in numbers for one in range(1, SESSIONS + 1))
    yield models.Release, (_release(number, started(number, size, now)) for number in numbers)
    yield models.Certificate, (_certificate_row(number, size, now, ours.release) for number in numbers)
    yield models.Event, (_event(number, size, now) for number in range(size.events))


def _round(number: int, begin: float) -> dict[str, Any]:
    return {
        "round": number,
        "state": "finished",
        "attempts": SESSIONS,
        "cohort": COHORT,
        "survivors": SURVIVORS,
        "started": begin,
        "finished": begin + 120.0,
        "seconds": {
            "check_in": 60.0,
            "share_keys": 9.0,
            "masked_input": 20.0,
            "consistency": 2.0,
            "unmask": 4.0,
            "publish": 9.0,
        },
        "release": release_id(number),
        "metrics": {
            "certificate": "certified",
            "certified_risk": 0.04,
            "threshold": 0.7,
            "epsilon": 0.01 * number,
            "refusals": {"replay": 2, "stale_round": 1},
            "usage": {name: 100 + place for place, name in enumerate(NAMES)},
        },
    }


def _attempts(number: int, begin: float) -> Iterator[dict[str, Any]]:
    for attempt in range(1, SESSIONS + 1):
        yield {
            "round": number,
            "attempt": attempt,
            "purpose": PURPOSES[attempt - 1],
            "outcome": "finished",
            "reason": "",
            "cohort": COHORT,
            "survivors": SURVIVORS,
            "started": begin + 30.0 * attempt,
            "finished": begin + 30.0 * attempt + 25.0,
        }


def _cohort(number: int, size: Size) -> Iterator[dict[str, Any]]:
    for attempt in range(1, SESSIONS + 1):
        for place in range(COHORT):
            device = device_id((number * COHORT + place) % size.devices)
            yield {"round": number, "attempt": attempt, "purpose": PURPOSES[attempt - 1], "device_id": device}


def _dropout(number: int, place: int, size: Size) -> dict[str, Any]:
    device = device_id((number * DROPOUTS + place) % size.devices)
    return {
        "round": number,
        "attempt": 1 + place % SESSIONS,
        "purpose": PURPOSES[place % SESSIONS],
        "device_id": device,
        "stage": "query.shares",
        "reason": "no answer",
    }


def _phases(number: int, begin: float) -> Iterator[dict[str, Any]]:
    for attempt in range(1, SESSIONS + 1):
        for place, phase in enumerate(PHASES):
            at = begin + 30.0 * attempt + 2.0 * place
            counts = {"expected": COHORT, "reported": SURVIVORS, "needed": 22}
            yield {
                "round": number,
                "attempt": attempt,
                "purpose": PURPOSES[attempt - 1],
                "phase": phase,
                "started": at,
                "finished": at + 2.0,
                **counts,
            }


def _record(number: int, attempt: int, round_key: Ed25519PrivateKey) -> dict[str, Any]:
    session = hashlib.sha256(b"session %d %d" % (number, attempt)).digest()
    body = pb.Record(
        suite="scale",
        session_id=session,
        run="scale",
        round=number,
        attempt=attempt,
        survivors=SURVIVORS,
        result_blake2b=session,
    ).SerializeToString()
    signed = pb.Signed(body=body, signature=keys.sign(round_key, "record", body)).SerializeToString()
    return {"round": number, "attempt": attempt, "session": session.hex(), "record": signed}


def _release(number: int, at: float) -> dict[str, Any]:
    parent = release_id(number - 1) if number > 1 else None
    return {
        "release_id": release_id(number),
        "version": number,
        "round": number,
        "parent": parent,
        "published": at + 110.0,
        "manifest": _manifest(number),
        "metrics": metrics_of(_manifest(number)),
    }


def _certificate_row(number: int, size: Size, now: float, key: Ed25519PrivateKey) -> dict[str, Any]:
    return {
        "release_id": release_id(number),
        "state": "certified",
        "issued": started(number, size, now),
        "document": _certificate(number, size, now, key),
    }


def _event(number: int, size: Size, now: float) -> dict[str, Any]:
    kind = ("round.finished", "device.left", "release.refused", "round.waits")[number % 4]
    device = device_id(number % size.devices)
    return {
        "at": now - 60.0 * (size.events - number),
        "kind": kind,
        "round": 1 + number * size.rounds // size.events,
        "text": f"{device} left at query.shares: no answer",
        "detail": {"device": device},
    }


def _ledger(rows: int, *, at: float) -> list[LedgerEntry]:
    kinds, payers = list(Kind), list(Payer)
    return [
        LedgerEntry(
            at, payers[place % len(payers)], kinds[place % len(kinds)], 1.0 + place % 7, "J", 1e-6, 1e-6 * (1 + place % 7)
        )
        for place in range(rows)
    ]


def _copy_ledger(engine: Engine, rounds: int, say: Say) -> None:
    """Gives rounds 2 and on what round 1 has, a few at a time."""
    for begin in range(2, rounds + 1, ROUNDS_AT_ONCE):
        end = min(begin + ROUNDS_AT_ONCE, rounds + 1)
        with engine.begin() as connection:
            for model, alike in (
                (models.Ledger, ("payer", "kind", "quantity", "unit", "price_usd", "amount_usd")),
                (models.LedgerSum, ("payer", "kind", "amount_usd")),
            ):
                table, round_ = model.__table__, models.Round.__table__
                chosen = [literal(1), round_.c.round, *([round_.c.started] if "unit" in alike else [])]
                wanted = (round_.c.run_id == 1) & round_.c.round.between(begin, end - 1)
                first = select(*chosen, *(table.c[name] for name in alike)).select_from(round_.join(table, wanted))
                first = first.where(table.c.run_id == 1, table.c.round == 1)
                names = ["run_id", "round", *(["at"] if "unit" in alike else []), *alike]
                ordered = first.order_by(round_.c.round)
                connection.execute(insert(model).from_select(names, ordered))
        say(f"the ledger of {end - 1} of {rounds} rounds")
