"""The store of one run: rounds and the state to go on from, what happened to each attempt, releases, records and the ledger.

The state is written in one transaction with the round that it follows: after a crash, both are there or neither. Every
method is one transaction, takes and gives plain values, and raises StoreError when the database fails.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any, TypeVar

from sqlalchemy import Engine, Insert, Select, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.orm import Session

from aggregator.store import models
from aggregator.store.accounts import LoginStore
from aggregator.store.audit import AuditStore
from aggregator.store.controls import ControlStore
from aggregator.store.engine import READ_ONLY, open_engine
from aggregator.store.events import Happenings
from aggregator.store.releases import Published, RolloutStore, metrics_of
from aggregator.store.retention import Retention
from aggregator.store.rows import AttemptRow, CertificateRow, DropoutRow, RecordRow, ReleaseRow, RoundRow
from fedge.costs import Kind, LedgerEntry, Payer
from fedge.errors import FedgeError

DEFAULT_RUN = "main"
_Row = TypeVar("_Row", RoundRow, AttemptRow, DropoutRow, ReleaseRow, CertificateRow, RecordRow)


class StoreError(FedgeError):
    """The database refused or failed; nothing of the call was kept."""


class Database:
    """One run in one database. Made by ``Database.open``; ``close`` it, or use it as a context manager."""

    def __init__(self, engine: Engine, run_id: int) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**READ_ONLY)
        self._run_id = run_id
        self.audit = AuditStore(self._read, self._write, run_id)
        """What operators did."""
        self.controls = ControlStore(self._read, self._write, run_id)
        """What operators want of the rounds."""
        self.happenings = Happenings(self._read, self._write, run_id)
        """How the round at hand goes."""
        self.retention = Retention(self._read, self._write, run_id)
        """What is forgotten when it is old."""
        self.published = Published(self._read, run_id)
        """Releases in short."""
        self.rollouts = RolloutStore(self._read, self._write, run_id)
        """How releases reached the fleet."""
        self.logins = LoginStore(self._read, self._write, run_id)
        """Who may log in to the console."""

    @staticmethod
    def open(url: str, *, run: str = DEFAULT_RUN, config: Mapping[str, Any] | None = None) -> "Database":
        """Opens a database (``sqlite:///PATH`` or ``postgresql://...``), migrates it, and finds or makes the run ``run``.

        ``config`` is kept when the run is made, for people to read. Raises InputError for a database that cannot be used.
        """
        engine = open_engine(url)
        try:
            with _failures("open the run"), Session(engine) as session, session.begin():
                found = session.scalar(select(models.Run).where(models.Run.name == run))
                if found is None:
                    found = models.Run(name=run, config=dict(config or {}))
                    session.add(found)
                    session.flush()
                return Database(engine, found.id)
        except StoreError:
            engine.dispose()
            raise

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def config(self) -> dict[str, Any]:
        """The configuration that the run was made with."""
        with self._read("read the run") as session:
            return dict(session.get_one(models.Run, self._run_id).config)

    # Rounds, and the state from which the next one starts.

    def save_round(self, row: RoundRow, state: bytes | None = None) -> None:
        """Inserts or replaces a round; with ``state``, that becomes the state to go on from, in the same transaction.

        Raises StoreError where the stored state already is of a later round: another aggregator is at work on this run.
        """
        with self._write(f"save round {row.round}") as session:
            session.merge(models.Round(run_id=self._run_id, **_values(row)))
            if state is None:
                return
            stored = session.get(models.RunState, self._run_id, with_for_update=True)
            if stored is not None and stored.round > row.round:
                raise StoreError(f"cannot save round {row.round}: the stored state is of round {stored.round}")
            session.merge(models.RunState(run_id=self._run_id, round=row.round, state=state))

    def load_state(self) -> bytes | None:
        """The state that was saved last, or None in a new run."""
        with self._read("load the state") as session:
            stored = session.get(models.RunState, self._run_id)
            return None if stored is None else stored.state

    def rounds(self) -> list[RoundRow]:
        """All rounds, oldest first."""
        model = models.Round
        return self._rows(RoundRow, self._ours(RoundRow, model).order_by(model.round))

    def latest_rounds(self, count: int, *, before: int | None = None) -> list[RoundRow]:
        """The newest ``count`` rounds, of those below ``before`` where that is given, oldest first."""
        model = models.Round
        wanted = self._ours(RoundRow, model)
        if before is not None:
            wanted = wanted.where(model.round < before)
        return self._rows(RoundRow, wanted.order_by(model.round.desc()).limit(count))[::-1]

    def latest_round(self) -> int:
        """The number of the newest round, 0 before the first."""
        with self._read("read the newest round") as session:
            newest = session.scalar(select(func.max(models.Round.round)).where(models.Round.run_id == self._run_id))
            return newest or 0

    def round(self, number: int) -> RoundRow | None:
        """One round, or None."""
        with self._read("read a round") as session:
            found = session.get(models.Round, (self._run_id, number))
            return None if found is None else _row(RoundRow, found)

    # What happened within a round.

    def add_attempt(self, row: AttemptRow) -> None:
        """Inserts or replaces one attempt."""
        with self._write("add an attempt") as session:
            session.merge(models.Attempt(run_id=self._run_id, **_values(row)))

    def attempts(self, round_number: int) -> list[AttemptRow]:
        """The attempts of a round in the order in which they started."""
        model = models.Attempt
        found = self._ours(AttemptRow, model).where(model.round == round_number)
        return self._rows(AttemptRow, found.order_by(model.started, model.attempt))

    def add_dropouts(self, rows: Iterable[DropoutRow]) -> None:
        """Adds devices that left an attempt."""
        self._insert(models.Dropout, [_values(row) for row in rows])

    def dropouts(self, round_number: int) -> list[DropoutRow]:
        """Who left which attempt of a round, at which stage and why."""
        model = models.Dropout
        found = self._ours(DropoutRow, model).where(model.round == round_number)
        return self._rows(DropoutRow, found.order_by(model.id))

    def set_cohort(self, round_number: int, *, attempt: int, purpose: str, devices: Iterable[str]) -> None:
        """Notes who stood on the roster of an attempt, in place of what was noted before."""
        model = models.Cohort
        of_it = {"run_id": self._run_id, "round": round_number, "attempt": attempt, "purpose": purpose}
        with self._write("note a cohort") as session:
            session.execute(delete(model).filter_by(**of_it))
            if rows := [{**of_it, "device_id": device} for device in devices]:
                session.execute(insert(model), rows)

    def cohorts(self, round_number: int) -> dict[tuple[str, int], list[str]]:
        """Who stood on the rosters of a round's attempts, by purpose and attempt, sorted."""
        model = models.Cohort
        query = select(model.purpose, model.attempt, model.device_id)
        query = query.where(model.run_id == self._run_id, model.round == round_number).order_by(model.device_id)
        found: dict[tuple[str, int], list[str]] = {}
        with self._read("read the cohorts of a round") as session:
            for purpose, attempt, device in session.execute(query):
                found.setdefault((purpose, attempt), []).append(device)
        return found

    def add_record(self, row: RecordRow) -> None:
        """Appends a signed record. Raises StoreError for a session that has one already: none is used twice."""
        self._insert(models.Record, [_values(row)])

    def records(self) -> list[RecordRow]:
        """The round log, oldest first."""
        model = models.Record
        return self._rows(RecordRow, self._ours(RecordRow, model).order_by(model.id))

    def records_of(self, round_number: int) -> list[RecordRow]:
        """The signed records of a round."""
        model = models.Record
        found = self._ours(RecordRow, model).where(model.round == round_number)
        return self._rows(RecordRow, found.order_by(model.id))

    def records_since(self, first: int) -> list[RecordRow]:
        """The signed records of the rounds from ``first`` on, oldest first."""
        model = models.Record
        found = self._ours(RecordRow, model).where(model.round >= first)
        return self._rows(RecordRow, found.order_by(model.id))

    # Releases and their certificates.

    def add_release(self, row: ReleaseRow) -> None:
        """Adds a release; adding it again changes nothing but its line."""
        with self._write("add a release") as session:
            session.merge(models.Release(run_id=self._run_id, metrics=metrics_of(row.manifest), **_values(row)))

    def releases(self) -> list[ReleaseRow]:
        """All releases, by version."""
        model = models.Release
        return self._rows(ReleaseRow, self._ours(ReleaseRow, model).order_by(model.version))

    def add_certificate(self, row: CertificateRow) -> None:
        """Adds a certificate document of a release that is stored. Raises StoreError for an unknown release."""
        self._insert(models.Certificate, [_values(row)])

    def certificates(self) -> list[CertificateRow]:
        """All certificate documents, oldest first."""
        model = models.Certificate
        return self._rows(CertificateRow, self._ours(CertificateRow, model).order_by(model.id))

    # The ledger.

    def add_ledger(self, round_number: int, entries: Iterable[LedgerEntry], *, row_s: float = 0.0) -> None:
        """Appends rows to the ledger, as used up in a round, and adds them to the round's sums in the same transaction.

        With ``row_s``, what equals a row begun less than so long ago in payer, kind, unit and price is added to that row.
        """
        plain = [{**asdict(entry), "payer": entry.payer.value, "kind": entry.kind.value} for entry in entries]
        for values in plain:
            values.pop("source")
        if not plain:
            return
        sums: dict[tuple[str, str], float] = {}
        for values in plain:
            key = values["payer"], values["kind"]
            sums[key] = sums.get(key, 0.0) + values["amount_usd"]
        ours = {"run_id": self._run_id, "round": round_number}
        with self._write("add to the ledger") as session:
            new = [values for values in plain if not (row_s and _joins_row(session, {**ours, **values}, row_s))]
            if new:
                session.execute(insert(models.Ledger), [{**ours, **values} for values in new])
            added = [{**ours, "payer": payer, "kind": kind, "amount_usd": usd} for (payer, kind), usd in sums.items()]
            session.execute(_add_to_sums(session.get_bind().dialect.name), added)

    def ledger(self, round_number: int) -> list[LedgerEntry]:
        """The ledger rows of a round in the order in which they were added."""
        model = models.Ledger
        columns = model.at, model.payer, model.kind, model.quantity, model.unit, model.price_usd, model.amount_usd
        query = select(*columns).where(model.run_id == self._run_id, model.round == round_number).order_by(model.id)
        with self._read("read the ledger") as session:
            return [
                LedgerEntry(row.at, Payer(row.payer), Kind(row.kind), row.quantity, row.unit, row.price_usd, row.amount_usd)
                for row in session.execute(query)
            ]

    def spent_usd(self) -> dict[tuple[Payer, Kind], float]:
        """The sum of the amounts of all rows by payer and kind."""
        model = models.LedgerSum
        query = select(model.payer, model.kind, func.sum(model.amount_usd)).where(model.run_id == self._run_id)
        with self._read("sum up the ledger") as session:
            found = session.execute(query.group_by(model.payer, model.kind))
            return {(Payer(payer), Kind(kind)): float(amount) for payer, kind, amount in found}

    def spent_by_round(self, first: int, last: int | None = None) -> dict[int, dict[tuple[Payer, Kind], float]]:
        """The sums of the amounts by round, payer and kind, from round ``first`` on, to ``last`` where it is given."""
        model = models.LedgerSum
        columns = model.round, model.payer, model.kind, model.amount_usd  # a page reads thousands: no object for each
        query = select(*columns).where(model.run_id == self._run_id, model.round >= first)
        if last is not None:
            query = query.where(model.round <= last)
        spent: dict[int, dict[tuple[Payer, Kind], float]] = {}
        with self._read("sum up the ledger by round") as session:
            for number, payer, kind, amount in session.execute(query.order_by(model.round, model.payer, model.kind)):
                spent.setdefault(number, {})[Payer(payer), Kind(kind)] = amount
        return spent

    def _insert(self, model: type[models.Base], values: Sequence[dict[str, Any]]) -> None:
        if values:
            with self._write(f"add to {model.__tablename__}") as session:
                session.execute(insert(model), [{"run_id": self._run_id, **value} for value in values])

    def _rows(self, kind: type[_Row], query: Select[Any]) -> list[_Row]:
        with self._read("read rows") as session:
            return [kind(**row._mapping) for row in session.execute(query)]

    def _ours(self, kind: type[_Row], model: Any) -> Select[Any]:
        """This run's rows of a table, as the columns of ``kind``: an object for each of thousands would take longer."""
        return select(*(getattr(model, field.name) for field in fields(kind))).where(model.run_id == self._run_id)

    @contextmanager
    def _write(self, what: str) -> Iterator[Session]:
        with _failures(what), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _read(self, what: str) -> Iterator[Session]:
        with _failures(what), Session(self._reader) as session, session.begin():
            yield session


def _joins_row(session: Session, values: Mapping[str, Any], row_s: float) -> bool:
    """Add ``values`` to the newest row of their kind that was begun within ``row_s``; False where there is none."""
    model = models.Ledger
    same = {name: values[name] for name in ("run_id", "round", "payer", "kind", "unit", "price_usd")}
    recent = model.at.between(values["at"] - row_s, values["at"])
    found = session.scalar(select(model).filter_by(**same).where(recent).order_by(model.id.desc()).limit(1))
    if found is None:
        return False
    found.quantity += values["quantity"]
    found.amount_usd += values["amount_usd"]
    return True


def _add_to_sums(dialect: str) -> Insert:
    """An insert into the ledger's sums that adds to what is there."""
    model = models.LedgerSum
    made = postgresql.insert(model) if dialect == "postgresql" else sqlite.insert(model)
    key = ["run_id", "round", "payer", "kind"]
    added = model.amount_usd + made.excluded.amount_usd
    return made.on_conflict_do_update(index_elements=key, set_={"amount_usd": added})


def _row(kind: type[_Row], found: models.Base) -> _Row:
    return kind(**{field.name: getattr(found, field.name) for field in fields(kind)})


def _values(row: _Row) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


@contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except StatementError as error:
        raise StoreError(f"the database cannot {what}: {error.orig}") from error
    except (SQLAlchemyError, ValueError, TypeError) as error:  # the latter two from values that JSON cannot say
        raise StoreError(f"the database cannot {what}: {error}") from error
