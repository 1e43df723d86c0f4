"""The rounds process (`fedge server run rounds`): rounds over a real SuperLink, for as long as it runs.

Connects to SuperLink, tells it which nodes are enrolled, starts a run and drives the same `ServerApp` as the simulator does.
When SuperLink goes away it waits for it and starts a new run from the stored state; when this process is killed the next one
does. A round that was not finished is begun again; a finished one is never lost. Devices are told nothing but the rounds'
own messages, and no code is shipped.

The Flower `ServerApp`: rounds, one after the other, until the plan is done.

When a round begins is the pacer's business: a fleet waits for the hour, the simulator lets a day of queries pass. After
each round the new state is handed to `keep`, which must not return before it is safe.
"""

import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from aggregator.accounting import charge_round
from aggregator.disk_space import SpaceWaiter, is_disk_full
from aggregator.releases.registry import ReleaseRegistry
from aggregator.releases.signer import ReleaseKey, SigningInterruptedError
from aggregator.rounds.config import RoundSettings
from aggregator.rounds.controls import Steering
from aggregator.rounds.interfaces import ProgressLog, Registry
from aggregator.rounds.probe_sums import TotalsSource
from aggregator.rounds.progress import StoredProgress
from aggregator.rounds.release_builder import ReleaseMaker
from aggregator.rounds.report import RoundReport, store_round
from aggregator.rounds.round import RoundRunner
from aggregator.rounds.secagg_session import ServerRoles, SessionDriver
from aggregator.rounds.state import FederationState, StateFolder, initial_state
from aggregator.rounds.superlink.client import SuperLink
from aggregator.rounds.superlink.process import prepare_superlink, superlink_address
from aggregator.rounds.superlink.runtime_client import SuperLinkLost
from aggregator.rounds.transport import DeviceLink
from aggregator.settings import ServerHome
from aggregator.store import Database
from fedge import logs, secagg
from fedge.costs import PriceBook
from fedge.errors import FedgeError
from fedge.secagg import CertificateVerifier


class Pacer(Protocol):
    """Decides when rounds begin and when they end."""

    def wait(self, round_number: int) -> bool:
        """Return when round ``round_number`` should begin; False ends the run."""

    def keep(self, state: FederationState, report: RoundReport) -> None:
        """A round is over: store its state."""


def build_server_app(runner: Callable[[Grid], RoundRunner], state: FederationState, pacer: Pacer) -> ServerApp:
    """A `ServerApp` that continues from ``state``. ``runner`` makes each round's anew, since settings may change between."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        current = state
        while pacer.wait(current.round_number + 1):
            with logs.context(round=current.round_number + 1):
                current, report = runner(grid).run(current)
                pacer.keep(current, report)

    return app


_log = logging.getLogger(__name__)

LINK_POLL_S = 0.03
PULL_ALL = 1024
NODES_POLL_S = 0.5
SETTLE_S = 3.0
"""A round that could begin waits until no further node has come for so long: after a start they come one by one."""
RECONNECT_S = 0.5
RECONNECT_MAX_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundsParts:
    """What rounds are made of. ``registry`` is where releases are published and promoted; ``releases`` where they are read.

    ``nodes`` gives the enrolled devices' node keys (P-384, PEM) by device id, without the revoked ones; it is asked again
    before each round and now and then in between. ``verify_certificate`` refuses revoked devices too.
    """

    maker: ReleaseMaker
    registry: Registry
    releases: ReleaseRegistry
    settings: RoundSettings
    release_key: ReleaseKey
    round_key: Ed25519PrivateKey
    verify_certificate: CertificateVerifier
    nodes: Callable[[], Mapping[str, bytes]]
    federation: str
    seed: bytes
    period_s: float
    totals: TotalsSource | None = None
    book: PriceBook = field(default_factory=PriceBook.load_default)
    roles: ServerRoles = secagg
    clock: Callable[[], float] = time.time
    stop: threading.Event = field(default_factory=threading.Event)


def run_rounds(home: ServerHome, parts: RoundsParts) -> None:
    """Run rounds until ``parts.stop`` is set. Raises InputError for a home that cannot be used."""
    files = prepare_superlink(home)
    folder = StateFolder(home.state, retry=SpaceWaiter(parts.stop))
    wait = RECONNECT_S
    with Database.open(home.settings().database or home.database_url) as database:
        progress = StoredProgress(database, clock=parts.clock)
        progress.recover()
        steering = Steering(database, progress, parts.settings, period_s=parts.period_s)
        while not parts.stop.is_set():
            try:
                link = SuperLink(superlink_address(home), files)
                try:
                    _run(link, parts, folder, database, progress=progress, steering=steering)
                finally:
                    link.close()
                wait = RECONNECT_S
            except SigningInterruptedError as interrupted:
                _log.warning("%s", interrupted)
            except SuperLinkLost as lost:
                _log.warning("%s; the rounds go on when it is back", lost)
                parts.stop.wait(wait)
                wait = min(2 * wait, RECONNECT_MAX_S)
            except (FedgeError, OSError, sqlite3.Error) as error:
                if not is_disk_full(error):
                    raise
                _log.error("the disk is full: %s. Rounds begin anew once there is space: free some", error)
                parts.stop.wait(wait)
                wait = min(2 * wait, RECONNECT_MAX_S)


def begin_or_resume(parts: RoundsParts, folder: StateFolder, database: Database) -> FederationState:
    """The state to go on from; at the very first start the first release is published and promoted."""
    state = folder.load(database.load_state())
    if state is None:
        active = parts.releases.active()
        if active is not None:  # `fedge server init` has published it
            return initial_state(parts.releases.release(active))
        first = parts.maker.make(parts.maker.first_head, version=0, temperature=1.0, parent=None)
        parts.registry.publish(first, at=parts.clock())
        parts.registry.promote(first.release_id, at=parts.clock(), reason="first release")
        return initial_state(first)
    # A round that was cut short may have published a version above the state's: the next one needs a number of its own.
    newest = max((release.version for release in parts.releases.releases()), default=state.version)
    return replace(state, version=max(state.version, newest))


def _run(
    superlink: SuperLink,
    parts: RoundsParts,
    folder: StateFolder,
    database: Database,
    *,
    progress: StoredProgress,
    steering: Steering,
) -> None:
    """One run of Flower's, until told to stop. Raises SuperLinkLost."""
    roster = _Roster(superlink, parts.nodes)
    roster.refresh()
    state = begin_or_resume(parts, folder, database)
    with superlink.run() as (grid, context):
        _log.info("rounds go on after round %d", state.round_number)
        pacer = FleetPacer(parts, folder, database, roster, progress=progress, steering=steering)

        def runner(grid: Grid) -> RoundRunner:
            link = DeviceLink(grid, clock=time.time, sleep=time.sleep, poll_s=LINK_POLL_S, batch=PULL_ALL)
            sessions = SessionDriver(
                link,
                parts.roles,
                run=parts.federation,
                round_key=parts.round_key,
                verify_certificate=parts.verify_certificate,
                clock=parts.clock,
                entropy=os.urandom,
                owner=roster.owner,
                progress=progress,
            )
            return RoundRunner(
                link=link,
                sessions=sessions,
                registry=parts.registry,
                settings=steering.settings,
                seed=parts.seed,
                clock=parts.clock,
                owner=roster.owner,
                readmissions=steering.readmissions,
                attempts=folder,
                progress=progress,
                maker=parts.maker,
                release_key=parts.release_key,
                totals=parts.totals,
            )

        build_server_app(runner, state, pacer)(grid, context)


class _Roster:
    """Who is enrolled, and which of them are connected."""

    def __init__(self, superlink: SuperLink, wanted: Callable[[], Mapping[str, bytes]]) -> None:
        self._superlink = superlink
        self._wanted = wanted
        self._device_of: dict[int, str] = {}

    def refresh(self) -> None:
        """Register who was enrolled since, shut out who was revoked."""
        self._device_of = self._superlink.reconcile(self._wanted())

    def enrolled(self) -> int:
        """How many nodes may take part."""
        return len(self._device_of)

    def online(self) -> int:
        """How many enrolled nodes are connected now."""
        return sum(node.online and node.node_id in self._device_of for node in self._superlink.nodes())

    def owner(self, node_id: int) -> str | None:
        """The device that a node was enrolled for."""
        return self._device_of.get(node_id)


class FleetPacer:
    """A `Pacer` by the clock: a round every period from start to start, once enough nodes are connected, unless an operator
    says otherwise (`aggregator.rounds.controls`).
    """

    def __init__(
        self,
        parts: RoundsParts,
        folder: StateFolder,
        database: Database,
        roster: _Roster,
        *,
        progress: ProgressLog,
        steering: Steering,
    ) -> None:
        self._parts = parts
        self._folder = folder
        self._database = database
        self._roster = roster
        self._progress = progress
        self._steering = steering
        latest = database.latest_rounds(1)
        self._begun = max((row.started for row in latest), default=-math.inf)
        self._summed = max((row.started for row in latest if row.cohort), default=-math.inf)

    def wait(self, round_number: int) -> bool:
        """Return when round ``round_number`` should begin; False when told to stop."""
        said = False
        most, grown = 0, self._parts.clock()
        while not self._parts.stop.is_set():
            self._roster.refresh()
            self._steering.refresh(round_number)
            settings = self._steering.settings
            now, online, needed = self._parts.clock(), self._roster.online(), settings.n_min
            if online > most:
                most, grown = online, now
            calendar = settings.calendar
            scheduled = not self._steering.holds and now >= max(
                self._begun + self._steering.period_s,
                # In a period that had its sums devices have nothing left to contribute.
                calendar.start_of(calendar.period_at(self._summed) + 1) if math.isfinite(self._summed) else -math.inf,
            )
            due = scheduled or self._steering.asked
            gathered = online >= min(settings.cohort, self._roster.enrolled()) or now >= grown + SETTLE_S
            if due and online >= needed and gathered:
                _log.info("round %d begins with %d connected nodes", round_number, online)
                self._steering.begun()
                return True
            if due and online < needed and not said:
                text = f"round {round_number} waits: {online} nodes are connected, {needed} are needed"
                _log.info("%s", text)
                self._progress.event("round.waits", text, round_number=round_number, connected=online, needed=needed)
                said = True
            self._parts.stop.wait(NODES_POLL_S)
        return False

    def keep(self, state: FederationState, report: RoundReport) -> None:
        """Store the round's lines and its state; the state also where the database fails.

        On a full disk it waits for space: the round's release may be published, and must not be without its state.
        """
        retry = SpaceWaiter(self._parts.stop)
        try:
            now = self._parts.clock()
            store_round(self._database, state, report, finished=now, retry=retry)
            used = [] if report.usage is None else report.usage.ledger(self._parts.book, at=now)
            rows = [*charge_round(report.tally, self._parts.book, at=now), *used]
            retry(lambda: self._database.add_ledger(report.round_number, rows))
        finally:
            self._folder.save(state)
        self._begun = report.started
        if report.cohort:
            self._summed = report.started
        text = (
            f"round {report.round_number} {report.outcome}: {report.survivors} of {report.cohort} devices, "
            f"release {state.release_id[:12]}"
        )
        _log.info("%s", text)
        self._progress.event("round.finished", text, round_number=report.round_number, outcome=report.outcome)
