"""The server's processes, each put together from the server's folder: door, superlink, rounds, central, console.

A process says one line when it is ready, runs until SIGTERM or SIGINT, and then ends with everything it took. Each reads
only the keys that it needs. Nothing here decides anything: the parts stand in their own packages.
"""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aggregator.disk_space import SpaceWaiter
from aggregator.http_serving import STOPPING, listening, serve_http, until_stopped
from aggregator.settings import ServerHome, ServerSettings
from fedge import logs
from fedge.errors import FedgeError, InputError

if TYPE_CHECKING:
    from aggregator.central import ProbeCounts
    from aggregator.releases.tuf_repository import TufRepository

_log = logging.getLogger(__name__)

TUF_REFRESH_S = 300.0
FIGURES_S = 5.0
FORGET_S = 3600.0
PARTS = ("superlink", "door", "central", "console", "rounds")
"""In the order in which they are started; any other works as well, since each waits for those that it needs."""


def run_part(part: str, home: ServerHome) -> None:
    """Run one part until it is told to stop. Raises InputError for an unknown part, a home without `init`, a taken port."""
    runners: dict[str, Callable[[ServerHome, ServerSettings], None]] = {
        "superlink": _superlink,
        "door": _door,
        "rounds": _rounds,
        "central": _central,
        "console": _console,
    }
    if part not in PARTS:
        raise InputError(f"there is no part {part!r}: choose one of {', '.join(PARTS)}")
    settings = home.settings()
    logs.configure(settings.log_format, part=part)
    runners[part](home, settings)


def ready_line(part: str) -> str:
    """How the line begins that a part prints once it serves."""
    return f"{part} is ready"


def say_ready(part: str, where: str) -> None:
    """One line on standard output."""
    print(f"{ready_line(part)}: {where}", flush=True)


def database_url(home: ServerHome, settings: ServerSettings) -> str:
    """Of the server's database."""
    return settings.database or home.database_url


def secagg_label(settings: ServerSettings) -> bool | str:
    """Return what pages and summaries say: "demo" where sums hide nothing, since they are over too few or come too often."""
    from aggregator.rounds.client_selection import COHORT_FLOOR

    rounds = settings.rounds
    return "demo" if rounds.n_min < COHORT_FLOOR or rounds.calendar_s < SHORTEST_PRIVATE_PERIOD_S else True


def console_url(settings: ServerSettings, port: int) -> str:
    """Where the console answers, by the first name that it has beyond loopback or by its address."""
    console = settings.console
    host = console.names[0] if console.names else console.host
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if console.tls_certificate is None else 'https'}://{shown}:{port}/"


SHORTEST_PRIVATE_PERIOD_S = 3600.0
"""What devices ask of a calendar by default (`min_period_s` in device.toml)."""


def _superlink(home: ServerHome, settings: ServerSettings) -> None:
    from aggregator.rounds.superlink.process import HOST, run_superlink

    with listening(HOST, settings.superlink_port):
        pass  # a taken port is one line here, and many of Flower's own
    run_superlink(home)


def _door(home: ServerHome, settings: ServerSettings) -> None:
    from aggregator.fleet.authority import Authority
    from aggregator.fleet.gateway import open_door
    from aggregator.fleet.published import EnrolledNodes
    from aggregator.releases.publication import tuf_repository
    from aggregator.releases.service import add_releases
    from aggregator.rounds.superlink.process import prepare_superlink, superlink_address
    from aggregator.rounds.superlink.relay import Destination, RelayBounds, RelayServicer, add_relay

    repository = tuf_repository(home, settings).public
    destination = Destination(superlink_address(home), prepare_superlink(home).certificate)
    nodes = EnrolledNodes(Authority(home.authority), home)
    relay = RelayServicer(destination, node_key=nodes.key, bounds=RelayBounds.from_settings(settings.limits))

    async def run() -> None:
        services = (lambda server: add_releases(server, repository), add_relay(relay))
        async with open_door(home, settings, services=services, clock=time.time) as door:
            where = f"{settings.host}:{door.fleet_port}, gRPC with mutual TLS; devices join at port {door.join_port}"
            await until_stopped(ready=lambda: say_ready("door", where))
        relay.close()

    asyncio.run(run())


def _rounds(home: ServerHome, settings: ServerSettings) -> None:
    from aggregator.central import TotalsClient
    from aggregator.fleet.keys import AggregatorKeys, has_release_key_elsewhere
    from aggregator.fleet.published import PublishedNodes, PublishedRevocations
    from aggregator.releases.publication import OfferedRegistry, RolloutRecord, tuf_repository
    from aggregator.releases.registry import ReleaseRegistry
    from aggregator.releases.signer import ReleaseKey
    from aggregator.rounds.canary import canary_policy
    from aggregator.rounds.coordinator import RoundsParts, run_rounds
    from aggregator.signing.queue import SignatureQueue
    from aggregator.store import Database
    from aggregator.wiring import release_maker, round_settings
    from aggregator.workbench.model_store import load_device_model, load_facts
    from fedge.calendar import Calendar
    from fedge.costs import PriceBook
    from fedge.errors import VerificationError
    from fedge.identity import TrustRoot
    from fedge.randomness import derive, root_seed
    from fedge.release import load_private_key

    model, trust, stop = load_device_model(home.models), TrustRoot.from_bytes(home.trust.read_bytes()), threading.Event()
    registry = ReleaseRegistry(home.registry, trust.release_key)
    release_key: ReleaseKey
    if has_release_key_elsewhere(home.keys):
        round_key, queue = load_private_key(home.keys / "round.pem"), SignatureQueue(home.signing, trust.release_key, stop)
        queue.clear()  # of a round that was cut short
        release_key = queue
    else:
        keys = AggregatorKeys.open(home.keys)
        round_key, release_key = keys.round, keys.release
    repository = tuf_repository(home, settings)
    revocations = PublishedRevocations(home)
    wanted = settings.rounds
    rollouts = RolloutRecord(registry, lambda: Database.open(database_url(home, settings)))
    offered = OfferedRegistry(registry, repository, record=rollouts.follow, retry=SpaceWaiter(stop))

    def verify(der: bytes) -> tuple[str, Any]:
        device_id, key = TrustRoot.from_bytes(home.trust.read_bytes()).verify_certificate(der, time.time())
        if revocations.is_revoked(device_id):
            raise VerificationError(f"device {device_id} is revoked")
        return device_id, key

    parts = RoundsParts(
        maker=release_maker(load_facts(home.models), model, PriceBook.load_default(), release_key),
        registry=offered,
        releases=registry,
        settings=round_settings(
            model.training,
            cohort=wanted.cohort,
            n_min=wanted.n_min,
            phase_timeout_s=wanted.phase_timeout_s,
            max_risk=wanted.max_risk,
            confidence=wanted.confidence,
            canary=canary_policy(settings.releases),
            usage_every=wanted.usage_every,
            range_proofs=wanted.range_proofs,
            calendar=Calendar(trust.period_s),
        ),
        release_key=release_key,
        round_key=round_key,
        verify_certificate=verify,
        nodes=PublishedNodes(home),
        federation=settings.federation,
        seed=derive(root_seed(settings.seed), "rounds"),
        period_s=wanted.period_s,
        totals=TotalsClient(home.totals_socket),
        stop=stop,
    )
    for number in STOPPING:
        signal.signal(number, lambda *_: parts.stop.set())
    offered.catch_up()  # what a crash may have left behind
    keeper = threading.Thread(target=_keep_fresh, args=(repository, parts.stop), name="tuf", daemon=True)
    keeper.start()
    forgetter = threading.Thread(target=_forget, args=(home, settings, parts.stop), name="retention", daemon=True)
    forgetter.start()
    say_ready("rounds", f"one every {wanted.period_s:.0f} s, of {wanted.n_min} to {wanted.cohort} devices")
    run_rounds(home, parts)


def _keep_fresh(repository: "TufRepository", stop: threading.Event) -> None:
    """Sign TUF's metadata anew well before it runs out."""
    while True:
        try:
            repository.refresh()
        except (FedgeError, OSError) as error:  # a full disk, say: what is signed stays, and the next look tries again
            _log.error("TUF's metadata cannot be renewed: %s", error)
        if stop.wait(TUF_REFRESH_S):
            return


def _forget(home: ServerHome, settings: ServerSettings, stop: threading.Event) -> None:
    """Forget what the settings no longer keep, now and once an hour."""
    from aggregator.store import Database, Keep

    keep = Keep(**settings.retention.model_dump())
    while True:
        try:
            with Database.open(database_url(home, settings)) as database:
                gone = database.retention.forget(keep, now=time.time(), stopped=stop.is_set, rest=stop.wait)
            if gone:
                _log.info("forgot what is old: %s", ", ".join(f"{count} rows of {name}" for name, count in gone.items()))
        except FedgeError as error:  # the next look tries again
            _log.error("what is old cannot be forgotten: %s", error)
        if stop.wait(FORGET_S):
            return


def _central(home: ServerHome, settings: ServerSettings) -> None:
    from aggregator.accounting import book_served
    from aggregator.central import Account, LedgerWriter, Served, ServerOptions, ServerTls, serve, serve_totals
    from aggregator.central.upstream.config import open_upstream
    from aggregator.fleet.published import PublishedRevocations
    from aggregator.store import Database
    from aggregator.wiring import central_service
    from aggregator.workbench.model_store import load_facts, load_strong_model
    from fedge.costs import PriceBook
    from fedge.traces import open_traces

    book = PriceBook.load_default()
    traces = open_traces(settings.traces_endpoint, service="fedge-central")
    facts = load_facts(home.models)
    strong = load_strong_model(home.models)
    upstream = open_upstream(settings.upstream, facts, book, figures=home.upstream_figures, traces=traces)
    counts = _probe_counts(home, settings, book.central_price_usd)
    asks = "" if upstream is None else f"; asks {upstream.model} upstream"
    tls = ServerTls(home.tls / "server.crt", home.tls / "server.key", home.tls / "ca.crt")
    is_revoked = PublishedRevocations(home).is_revoked

    async def run(database: Database) -> None:
        def book_answers(served: Mapping[Account, Served]) -> None:
            book_served(database, served, book, at=time.time(), upstream=upstream)

        ledger = LedgerWriter(book_answers, usd=lambda served: upstream.usd(served.tokens) if upstream else 0.0)
        service = central_service(
            strong, facts, book, time.time, traces=traces, upstream=upstream, probes=counts, ledger=ledger
        )
        server = await serve(
            service,
            address=f"{settings.host}:{settings.central_port}",
            tls=tls,
            options=ServerOptions.from_settings(settings.limits),
            is_revoked=is_revoked,
            traces=traces,
        )
        figures = asyncio.create_task(keep_figures())
        await until_stopped(ready=lambda: say_ready("central", f"{settings.host}:{server.port}, gRPC with mutual TLS{asks}"))
        figures.cancel()
        await server.stop()
        if upstream is not None:
            await asyncio.to_thread(upstream.close)
        await asyncio.to_thread(ledger.close)

    async def keep_figures() -> None:
        while True:
            await asyncio.sleep(FIGURES_S)
            await asyncio.to_thread(write_figures)

    def write_figures() -> None:
        if upstream is not None:
            try:
                upstream.budget.figures.write(home.upstream_figures)
            except (FedgeError, OSError) as error:  # the next look tries again
                _log.error("what upstream costs is not noted: %s", error)

    with Database.open(database_url(home, settings)) as database, serve_totals(counts, home.totals_socket):
        try:
            asyncio.run(run(database))
        finally:
            if upstream is not None:
                upstream.close()
        write_figures()


def _probe_counts(home: ServerHome, settings: ServerSettings, central_price_usd: float) -> "ProbeCounts":
    """Return central's counts of probes, held against what the trust root says at the time."""
    from aggregator.central import ProbeCounts, ReleaseScores, TotalsPolicy
    from aggregator.releases.registry import ReleaseRegistry
    from fedge.calendar import Calendar
    from fedge.identity import TrustRoot
    from fedge.routing import Policy

    def trust() -> TrustRoot:
        return TrustRoot.from_bytes(home.trust.read_bytes())

    registry = ReleaseRegistry(home.registry, trust().release_key)
    return ProbeCounts(
        home.probe_counts,
        ReleaseScores(registry, policy=Policy.default(), central_price_usd=central_price_usd),
        TotalsPolicy(
            round_key=lambda: trust().round_key,
            federation=settings.federation,
            n_min=settings.rounds.n_min,
            calendar=Calendar(trust().period_s),
            is_demo=secagg_label(settings) == "demo",
        ),
    )


def _console(home: ServerHome, settings: ServerSettings) -> None:
    from aggregator.admin import Operator
    from aggregator.console import create_app
    from aggregator.console.auth.accounts import has_operator
    from aggregator.console.config import access_policy, oidc_login, tls_files
    from aggregator.store import Database

    about = {
        "federation": settings.federation,
        "workload": settings.workload,
        "secagg": secagg_label(settings),
        "n_min": settings.rounds.n_min,
        "period_s": settings.rounds.period_s,
    }
    host = settings.console.host
    with Database.open(database_url(home, settings)) as database:
        policy = access_policy(settings.console, has_operator=has_operator(database))
        operator = Operator(home, database=database)
        operator.follow_rollouts()
        app = create_app(database, federation=about, operator=operator, policy=policy, oidc=oidc_login(settings.console))
        tls = tls_files(settings.console)
        with listening(host, settings.console_port) as listener:
            where = console_url(settings, listener.getsockname()[1])
            serve_http(app, listener, tls=tls, ready=lambda: say_ready("console", where))
