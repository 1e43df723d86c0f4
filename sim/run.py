"""`fedge sim run`: the closed loop on a simulated fleet, from nothing to a summary.

Puts the real parts together (devices, Flower apps, aggregator, central) and lets days pass. The loop itself is not here:
what a device does is `edge_client`, what a round does is `aggregator.rounds`, what is measured and kept after it is
`sim.days`.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flwr.serverapp import Grid

from aggregator.central import ProbeCounts, ReleaseScores, TotalsPolicy
from aggregator.central.probe_counts import LEAST_ROSTER
from aggregator.fleet.enrollment import Enrolment
from aggregator.fleet.keys import AggregatorKeys, load_or_create
from aggregator.releases.registry import ReleaseRegistry
from aggregator.rounds.config import RoundSettings
from aggregator.rounds.coordinator import build_server_app
from aggregator.rounds.release_builder import ReleaseMaker
from aggregator.rounds.rollout import replace_base
from aggregator.rounds.round import RoundRunner
from aggregator.rounds.secagg_session import SessionDriver
from aggregator.rounds.state import FederationState, initial_state
from aggregator.rounds.transport import DeviceLink
from aggregator.store import Database
from aggregator.wiring import central_service, release_maker
from aggregator.workbench.workloads import WorkloadFacts
from edge_client.power.accounting import EnergyMeter
from edge_client.releases.health_window import WatchRules
from edge_client.store import DeviceStore
from fedge import secagg
from fedge.costs import PriceBook, load_profiles
from fedge.errors import InputError
from fedge.identity import verify_certificate
from fedge.randomness import derive, root_seed
from fedge.release import CertificateDocument, Release, assemble_release, write_release
from fedge.routing import Policy
from fedge.secagg import plain
from sim import checkpoint as checkpoints
from sim.alone import ALONE_DEVICES, right_alone
from sim.availability import Dropouts
from sim.central import central_client, totals_source
from sim.checkpoint import Checkpoint
from sim.clock import DAY, SimulatedClock
from sim.config import SimulationConfig
from sim.days import (
    CERTIFICATE_FILE,
    MANIFEST_FILE,
    PROBES_FILE,
    SIGNATURE_FILE,
    STATE_FILE,
    Alter,
    Days,
    Observer,
    Watch,
    unaltered,
)
from sim.fleet import FEDERATION, Fleet, FleetSettings
from sim.grid import SERVER_NODE, InProcessGrid, node_context
from sim.measure import TestAnswers, TestSet, routing_figures
from sim.preparation import Preparation, prepare
from sim.record import QueryColumns, RunRecord, record_rounds, write_record
from sim.report import render
from sim.settings import CORRECTIONS, PROFILE, round_settings
from sim.source import RegistrySource
from sim.summary import write as write_summary

# The aggregator's own database of the run: `fedge rounds list --run OUT` reads it.
DATABASE = "aggregator.sqlite"
# How long devices' certificates outlast the run: an experiment upon a finished run lets days pass, too.
SPARE_DAYS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedRun:
    """A run whose rounds are over, with its devices and its aggregator's parts still alive: for experiments upon it."""

    days: Days
    fleet: Fleet
    registry: ReleaseRegistry
    keys: AggregatorKeys
    authority: Ed25519PublicKey
    clock: SimulatedClock
    settings: RoundSettings

    @property
    def release(self) -> Release:
        """The release that devices end on."""
        active = self.registry.active()
        assert active is not None
        return self.registry.release(active)


Aftermath = Callable[[PlayedRun], None]
"""Is called once the last round is over, before the summary is written."""


def simulate(
    config: SimulationConfig,
    *,
    observer: Observer,
    resume: bool = False,
    preparation: Preparation | None = None,
    alter: Alter = unaltered,
    watch: Watch | None = None,
    new_base: bool = False,
    health_window: WatchRules | None = None,
    aftermath: Aftermath | None = None,
) -> dict[str, Any]:
    """Run the loop, write everything into ``config.out``, and return the summary.

    ``preparation`` lets several runs share data and models; ``alter`` and ``watch`` are for experiments. ``new_base``, with
    ``resume``: the device model of ``preparation`` replaces the one that the run was interrupted with. ``health_window``
    lets devices judge and count each release as real ones do; ``aftermath`` gets the finished run.
    Raises InputError for parameters, files and checkpoints that cannot be used. An interruption leaves the last finished
    round's checkpoint behind.
    """
    stored = _checkpoint(config) if resume else None
    book, policy = _price_book(config.prices), read_policy(config.policy)
    _make_folder(config.out)
    prepared = preparation or prepare(config, stage=observer.stage)
    if stored is None:  # only now: inputs that cannot be used must not cost the folder an earlier run's checkpoint
        checkpoints.clear(config.out)
        (config.out / DATABASE).unlink(missing_ok=True)
    policy = policy.for_labels(prepared.workload.topics, prepared.workload.labels)
    policy = policy if config.constraint else replace(policy, constraint_weight=0.0)
    with _simulation(
        config,
        prepared,
        stored,
        book=book,
        policy=policy,
        observer=observer,
        alter=alter,
        watch=watch,
        new_base=new_base,
        health_window=health_window,
    ) as played:
        days, release = played.days, played.release
        stores = [played.fleet.devices[number].store for number in played.fleet.honest]
        if aftermath is not None:
            aftermath(played)
        # A resumed run that had nothing left to play measures its release here.
        answers = days.answers or days.measured(release, days.rounds[-1]["threshold"])
        summary = _summary(config, prepared, days, book, answers)
        write_summary(config.out, summary)
        write_record(config.out, _record(config, prepared, days, summary, answers, release=release, stores=stores))
        (config.out / "report.html").write_text(render(summary), encoding="utf-8")
        write_release(config.out / "release", release, replace=True)
    return summary


@contextmanager
def _simulation(
    config: SimulationConfig,
    prepared: Preparation,
    stored: Checkpoint | None,
    *,
    book: PriceBook,
    policy: Policy,
    observer: Observer,
    alter: Alter,
    watch: Watch | None,
    new_base: bool,
    health_window: WatchRules | None,
) -> Iterator[PlayedRun]:
    """Play every round and yield the finished run."""
    seed = root_seed(config.seed)
    clock = SimulatedClock() if stored is None else SimulatedClock(stored.clock)
    queries = config.queries_per_round or prepared.workload.queries_per_round
    profile = load_profiles(prepared.workload.features.kind)[PROFILE]
    roles = secagg if config.secagg else plain
    settings = round_settings(config, prepared.model)
    keys = AggregatorKeys.open(config.out / checkpoints.STATE / "keys")
    authority = load_or_create(config.out / checkpoints.STATE / "keys" / "authority.pem")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedge-sim-")))
        registry = ReleaseRegistry(scratch / "registry", keys.release.public_key())
        source = RegistrySource(registry)
        facts = WorkloadFacts.of(prepared.workload)
        maker = release_maker(facts, prepared.model, book, keys.release, noise_multiplier=config.dp_noise_multiplier)
        state = _begin(maker, registry, clock) if stored is None else _take_up(stored, registry, keys, clock)
        if new_base:
            replace_base(maker, registry, state, at=clock())
        counts = ProbeCounts(
            scratch / "probes.sqlite",
            ReleaseScores(registry, policy=policy, central_price_usd=book.central_price_usd),
            TotalsPolicy(
                round_key=keys.round.public_key,
                federation=FEDERATION,
                n_min=settings.n_min,
                calendar=settings.calendar,
                is_demo=settings.n_min < LEAST_ROSTER,
            ),
            stored=None if stored is None else stored.files.get(PROBES_FILE),
        )
        totals = stack.enter_context(
            totals_source(counts, scratch / "totals.sock", clock, over_grpc=config.central == "grpc")
        )
        service = central_service(prepared.strong, facts, book, clock, probes=counts)
        central = stack.enter_context(central_client(service, over_grpc=config.central == "grpc"))
        fleet = Fleet(
            FleetSettings(
                devices=config.devices,
                alpha=config.alpha,
                queries=queries,
                lifetime_s=(config.rounds + SPARE_DAYS) * DAY,
                n_min=settings.n_min,
                corrections=CORRECTIONS,
                policy=policy,
                meter=EnergyMeter(book, profile),
                roles=roles,
                health_window=health_window,
                hostile=config.hostile,
            ),
            prepared.workload,
            keys=keys,
            authority=authority.public_key(),
            enrolment=Enrolment(scratch / "enrolment", authority),
            source=source,
            central=central,
            seed=derive(seed, "fleet"),
            clock=clock,
            stored=None if stored is None else stored.devices,
            release=None if stored is None else registry.release(state.release_id),
        )
        fleet.take_up()
        days = Days(
            config,
            fleet=fleet,
            registry=registry,
            database=stack.enter_context(Database.open(f"sqlite:///{(config.out / DATABASE).absolute()}")),
            source=source,
            strong=prepared.strong,
            test=TestSet(prepared.workload, prepared.central_test),
            book=book,
            profile=profile,
            policy=policy,
            clock=clock,
            observer=observer,
            rounds=[] if stored is None else stored.rounds,
            alter=alter,
            watch=watch,
            probe_counts=counts.snapshot,
        )

        def runner(grid: Grid) -> RoundRunner:
            link = DeviceLink(grid, clock=clock, sleep=clock.sleep)
            sessions = SessionDriver(
                link,
                roles,
                run=FEDERATION,
                round_key=keys.round,
                verify_certificate=partial(_vouched, authority.public_key(), clock),
                clock=clock,
                entropy=os.urandom,
            )
            return RoundRunner(
                link=link,
                sessions=sessions,
                registry=registry,
                settings=settings,
                seed=derive(seed, "rounds"),
                clock=clock,
                owner=fleet.device_of,
                repeatable_draws=True,
                maker=maker,
                release_key=keys.release,
                totals=totals,
            )

        grid = InProcessGrid(fleet.nodes(), absent=Dropouts(config.dropout, derive(seed, "availability")).absent)
        build_server_app(runner, state, days)(grid, node_context(SERVER_NODE))
        yield PlayedRun(
            days=days,
            fleet=fleet,
            registry=registry,
            keys=keys,
            authority=authority.public_key(),
            clock=clock,
            settings=settings,
        )


def _begin(maker: ReleaseMaker, registry: ReleaseRegistry, clock: SimulatedClock) -> FederationState:
    """Publish the first release, whose head knows nothing (or what the server's part taught it)."""
    first = maker.make(maker.first_head, version=0, temperature=1.0, parent=None)
    registry.publish(first, at=clock())
    registry.promote(first.release_id, at=clock(), reason="first release")
    return initial_state(first)


def _take_up(stored: Checkpoint, registry: ReleaseRegistry, keys: AggregatorKeys, clock: SimulatedClock) -> FederationState:
    """Publish again what the fleet ran when the run stopped."""
    files = dict(stored.files)
    files.pop(PROBES_FILE, None)
    state = FederationState.from_bytes(files.pop(STATE_FILE))
    certificate = files.pop(CERTIFICATE_FILE, None)
    manifest, signature = files.pop(MANIFEST_FILE), files.pop(SIGNATURE_FILE)
    release = assemble_release(manifest, signature, files, release_key=keys.release.public_key())
    registry.publish(release, at=clock())
    registry.promote(release.release_id, at=clock(), reason="resumed")
    if certificate is not None:
        registry.add_certificate(CertificateDocument.from_bytes(certificate), at=clock())
    return state


def _summary(
    config: SimulationConfig, prepared: Preparation, days: Days, book: PriceBook, answers: TestAnswers
) -> dict[str, Any]:
    parameters = config.parameters()
    parameters["queries_per_round"] = config.queries_per_round or prepared.workload.queries_per_round
    return {
        "workload": config.workload,
        "data_sha256": prepared.workload.data_sha256,
        "devices": config.devices,
        "rounds": days.rounds,
        "break_even_round": days.break_even("marginal"),
        "break_even_round_loaded": days.break_even("loaded"),
        "secagg": config.secagg_label,
        "seed": config.seed,
        "version": version("fedge"),
        "hostile": dict(config.hostile),
        "parameters": parameters,
        "central_model": prepared.strong.name,
        "price_book": book.version,
        "device_profile": PROFILE,
        "corrections": CORRECTIONS,
        "privacy": days.privacy(),
        "routing": routing_figures(TestSet(prepared.workload, prepared.central_test), answers, root_seed(config.seed)),
        "note": prepared.workload.note,
        "seconds": prepared.seconds,
    }


def _record(
    config: SimulationConfig,
    prepared: Preparation,
    days: Days,
    summary: Mapping[str, Any],
    answers: TestAnswers,
    *,
    release: Release,
    stores: Sequence[DeviceStore],
) -> RunRecord:
    """What `fedge sim scenarios` needs."""
    workload = prepared.workload
    few = stores[:ALONE_DEVICES]
    alone = right_alone(
        release,
        prepared.model.head,
        few,
        list(workload.test.queries),
        workload.test.labels,
        rounds=len(days.rounds),
        seed=root_seed(config.seed),
    )
    return RunRecord(
        workload=workload.name,
        seed=config.seed,
        devices=config.devices,
        queries_per_round=summary["parameters"]["queries_per_round"],
        release=release.release_id,
        threshold=days.rounds[-1]["threshold"],
        device_profile=PROFILE,
        device_model=workload.features.kind,
        price_book=summary["price_book"],
        version=summary["version"],
        parameters=config.parameters(),
        labels=workload.labels,
        oos_label=workload.oos_label,
        asked=days.asked_labels,
        alone_devices=len(few),
        queries=QueryColumns(
            confidence=answers.sure,
            device=answers.own,
            central=prepared.central_test,
            truth=workload.test.labels,
            local=answers.local.astype(np.int64),
            owner=workload.test_device,
            alone=alone,
        ),
        rounds=record_rounds(days.rounds),
    )


def _checkpoint(config: SimulationConfig) -> Checkpoint:
    """The checkpoint to continue from. Raises InputError where there is none, or one of other parameters."""
    stored = checkpoints.load(config.out)
    if stored is None:
        raise InputError(f"--resume: {config.out} holds no interrupted run; start it without --resume")
    if different := config.differences(stored.config):
        names = ", ".join("--" + name.replace("_", "-") for name in different)
        raise InputError(f"--resume: the run in {config.out} was started with other values of {names}; give the same ones")
    if stored.round_number > config.rounds:
        raise InputError(
            f"--resume: the run in {config.out} already has {stored.round_number} rounds, more than --rounds {config.rounds}"
        )
    return stored


def _price_book(path: Path | None) -> PriceBook:
    return PriceBook.load_default() if path is None else PriceBook.from_toml(_read_text(path, "--prices"))


def read_policy(path: Path | None) -> Policy:
    """The policy in a file, or the default one. Raises InputError."""
    return Policy.default() if path is None else Policy.from_toml(_read_text(path, "--policy"))


def _read_text(path: Path, flag: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{flag} {path} cannot be read: {error}") from error


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made: {error.strerror}") from error


def _vouched(authority: Ed25519PublicKey, clock: SimulatedClock, der: bytes) -> tuple[str, Any]:
    return verify_certificate(der, authority, clock())
