"""The agent as one long-running process: everything of `edge_client` put together from a device's home.

Decides nothing of its own: it builds the parts, runs their loops beside the local API, and takes them down in order. Flower
is imported only where the device takes part in rounds. What other modules bring (releases from the fleet's door, renewal of
certificates, Flower's node) comes in as `Plugs`.
"""

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge_client.agent_file import RunningAgent, forget, only_one
from edge_client.clock import Clock, Stopwatch, system_clock, system_stopwatch
from edge_client.inference.escalation import ClientTls, GrpcCentralClient, WatchedCentral
from edge_client.inference.pipeline import Agent, Device
from edge_client.inference.policy_file import load_policy, policy_path
from edge_client.membership.credentials import own_secret
from edge_client.memory_trimming import settle
from edge_client.power import PowerMeter, find_sensors
from edge_client.power.accounting import EnergyMeter
from edge_client.releases.health_window import ReleaseWatch, WatchRules
from edge_client.releases.inference import ReleaseLoader
from edge_client.releases.manager import Latest, ReleaseManager, ReleasePieces, ReleaseSource
from edge_client.releases.storage import FolderShelf
from edge_client.releases.trial import LoadingTrial
from edge_client.scheduler import Loop, Pace
from edge_client.service.app import Service, create_app
from edge_client.service.context import Health
from edge_client.service.metrics import Figures
from edge_client.service.serve import ApiServer, address_of, listen
from edge_client.settings import DeviceHome, DeviceSettings
from edge_client.store import DeviceStore, Limits, StoreUnwritableError, open_file
from edge_client.store.retention import forget_before, tidy
from fedge.costs import PriceBook, load_profiles
from fedge.errors import FedgeError, InputError, VerificationError
from fedge.identity import TrustRoot
from fedge.identity.tls import certificate_span
from fedge.randomness import derive
from fedge.traces import open_traces


def notify(state: str) -> None:
    """Send ``state`` ("READY=1", "STOPPING=1"). Without systemd, or where it does not listen, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or address[0] not in "/@":
        return
    if address[0] == "@":  # Linux's abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            notifier.connect(address)
            notifier.sendall(state.encode())
        except OSError:
            return


_log = logging.getLogger(__name__)
_DAY_S = 86_400.0
_JOIN_S = 10.0


class NoSource:
    """A `ReleaseSource` that has nothing: the device goes on with what is installed."""

    def latest(self) -> Latest:
        """Nothing is desired."""
        return Latest(None, None)

    def fetch(self, release_id: str, have: object) -> ReleasePieces:
        """Never: nothing was named."""
        raise FedgeError(f"release {release_id[:12]} cannot be had: this device has no source of releases")


def no_source(home: DeviceHome, settings: DeviceSettings) -> ReleaseSource:
    """Where no fleet door is in use."""
    return NoSource()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugs:
    """What is plugged into an agent. ``source``: where releases come from. ``loops``: further loops, made once the agent
    stands (renewal of certificates, Flower's node); a long step watches ``AgentProcess.stopping``.
    """

    source: Callable[[DeviceHome, DeviceSettings], ReleaseSource] = no_source
    loops: tuple[Callable[["AgentProcess"], Loop], ...] = ()


class AgentProcess:
    """The parts of one agent. `run` serves until SIGTERM or SIGINT; one process holds one at a time.

    ``policy``: a file in place of the one that the settings name.
    """

    def __init__(
        self,
        home: DeviceHome,
        *,
        plugs: Plugs | None = None,
        policy: Path | None = None,
        clock: Clock = system_clock,
        stopwatch: Stopwatch = system_stopwatch,
    ) -> None:
        plugs = plugs or Plugs()
        self.home = home
        self.settings = settings = home.settings()
        self.clock = clock
        self.stopping = threading.Event()
        self.trust = _trust(home)
        self.policy = load_policy(policy_path(home, settings) if policy is None else policy)
        self.meter = _meter(settings, stopwatch)
        self.store = _store(home, settings)
        self.releases = ReleaseManager(
            plugs.source(home, settings),
            shelf=FolderShelf(home.releases, self.trust.release_key),
            store=self.store,
            loader=ReleaseLoader(self.trust.release_key, trial=LoadingTrial()),
            watch=ReleaseWatch(self.store, _watch_rules(settings), clock),
        )
        self.traces = open_traces(settings.traces_endpoint, service="fedge-device")
        self.channel = GrpcCentralClient(
            settings.central, ClientTls(home.tls_authority, home.tls_certificate, home.tls_key).credentials,
            server_name=settings.server_name, traces=self.traces,
        )  # fmt: skip
        check = partial(self.channel.describe, settings.central_timeout_s)
        self.central = WatchedCentral(self.channel, check=check, lost=self._lost_central)
        self.agent = Agent(self._device(stopwatch), store=self.store, releases=self.releases, central=self.central)
        self._catching_up = Loop("outbox", self._catch_up, Pace(30.0))
        self._settling = Loop("memory", settle, Pace(30.0))
        self.loops = [
            self._catching_up,
            Loop("releases", self._sync, Pace(settings.sync_s)),
            Loop("keeping", self._keep, Pace(3600.0)),
            self._settling,
            *([Loop("power", self.meter.power.rest, Pace(15.0))] if self.meter.power else []),
            *(make(self) for make in plugs.loops),
        ]
        self._service = Service(
            agent=self.agent,
            health=self.health,
            figures=Figures(
                self.store,
                self.releases,
                started_at=clock(),
                left_usd=self._left_usd,
                certificate_end=partial(_certificate_end, home),
            ),
            clock=clock,
        )
        self._server = ApiServer(create_app(self._service))

    def run(self, *, ready: Callable[[str], None] = lambda url: None) -> None:
        """Serve until SIGTERM or SIGINT; for a process's main thread. As `serve` otherwise."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        self.serve(ready=ready)

    def serve(self, *, ready: Callable[[str], None] = lambda url: None) -> None:
        """Serve until `stop`. ``ready`` is told the API's address. Raises InputError where it cannot begin."""
        with ExitStack() as stack:
            stack.callback(self.close)
            stack.enter_context(only_one(self.home))
            api = self.settings.api
            listener = stack.enter_context(listen(api.host, api.port))
            self._restore()
            stack.callback(forget, self.home)
            self._server.serve_on(listener, ready=partial(self._ready, address_of(listener), ready))
            notify("STOPPING=1")

    def stop(self) -> None:
        """Answer what is being answered, then return from `serve`. For any thread, or a signal's handler."""
        self._server.stop()

    def health(self) -> Health:
        """What the device can do now, and what it would want."""
        active = self.releases.active
        online = self.central.online()
        missing: dict[str, str] = {}
        if (full := self.agent.missing_storage()) is not None:
            missing["storage"] = full
        if active is None:
            missing["release"] = "none is installed yet: central answers everything"
        elif active.threshold(self.clock()) is None:
            missing["certificate"] = "none of agreement with central is valid now: what may leave the device goes to central"
        if not online:
            missing["central"] = "out of reach: hard queries are answered here, marked degraded, or queued"
        if (spent := self.agent.spending.missing(self.clock())) is not None:
            missing["allowance"] = spent
        if active is not None and (unknown := self.policy.unknown(active.loaded.release.manifest.labels)):
            missing["policy"] = f"names what the release does not know, and protects nothing there: {', '.join(unknown[:3])}"
        for loop in self.loops:
            if loop.last_error is not None:
                missing.setdefault(loop.name, loop.last_error)
        detail: dict[str, Any] = {
            "device_id": self.settings.device_id,
            "recording": full is None,
            "release": active.loaded.release_id if active else None,
            "release_version": active.loaded.release.manifest.version if active else None,
            "central": "in reach" if online else "out of reach",
            "report_s": self.settings.report_s if any(loop.name == "presence" for loop in self.loops) else 0.0,
            "queue": {"questions": len(self.store.outbox), "bytes": self.store.outbox.size_bytes},
            "contributions": [asdict(totals) for totals in self.store.contributions.totals()],
            **self.agent.spending.status(self.clock()),
        }
        given_up = [release for release in self.store.health.all() if release.state == "rolled_back"]
        if given_up:
            detail["given_up"] = {release.release_id: release.reason for release in given_up[-3:]}
        return Health(ready=active is not None or online, missing=missing, detail=detail)

    def renewed(self) -> None:
        """Ask central with the certificates that stand in the home now. For whoever renewed them."""
        self.channel.reopen()

    def close(self) -> None:
        """Stop the loops, let calls end, close what is open."""
        self.stopping.set()
        for loop in self.loops:
            loop.stop()
        self._service.threads.shutdown(wait=True, cancel_futures=True)
        for loop in self.loops:
            loop.join(_JOIN_S)
        self.channel.close()
        try:
            self.releases.close()
        except StoreUnwritableError as error:
            _log.warning("that the agent ended as it should is not recorded: %s", error)
        self.store.close()

    def _device(self, stopwatch: Stopwatch) -> Device:
        return Device(
            device_id=self.settings.device_id,
            probe_key=derive(own_secret(self.home.secret), "probes"),
            policy=self.policy,
            meter=self.meter,
            clock=self.clock,
            stopwatch=stopwatch,
            online=self.central.online,
            timeout_s=self.settings.central_timeout_s,
            daily_budget_usd=self.settings.daily_budget_usd,
            traces=self.traces,
        )

    def _left_usd(self) -> float | None:
        """What is left of the day's budget; None without one."""
        left_usd = self.agent.spending.left_usd(self.clock())
        return None if math.isinf(left_usd) else max(0.0, left_usd)

    def _ready(self, url: str, ready: Callable[[str], None]) -> None:
        for loop in self.loops:
            loop.start()
        RunningAgent(url, os.getpid(), self.settings.device_id).write(self.home)
        notify("READY=1")
        ready(url)

    def _restore(self) -> None:
        """Take up the installed release; one that no longer verifies is fetched anew, and until then central answers."""
        try:
            self.releases.restore()
        except VerificationError as error:
            _log.warning("the installed release is not taken up: %s", error)

    def _lost_central(self) -> None:
        _log.warning("central is out of reach: the device answers by itself")
        self._catching_up.wake()

    def _catch_up(self) -> None:
        self.agent.expire(max_age_s=self.settings.queue.max_age_s)
        # Asked even while all seems well, so that a query need not be the first to find out.
        self.central.check()
        while self.agent.catch_up() and not self.stopping.is_set():
            pass

    def _sync(self) -> None:
        if self.agent.sync().changed:
            self._settling.wake()

    def _keep(self) -> None:
        forget_before(self.store, self.clock() - self.settings.keep_days * _DAY_S)
        tidy(self.store)


def _trust(home: DeviceHome) -> TrustRoot:
    try:
        return TrustRoot.from_bytes(home.trust.read_bytes())
    except OSError as error:
        raise InputError(f"{home.trust} cannot be read ({error.strerror}): enrol this device first") from None


def _certificate_end(home: DeviceHome) -> float | None:
    """When the certificate that the device shows runs out; None where none can be read."""
    try:
        return certificate_span(home.tls_certificate.read_bytes())[1]
    except (OSError, VerificationError):
        return None


def _watch_rules(settings: DeviceSettings) -> WatchRules:
    given = settings.releases
    return WatchRules(
        health_s=given.health_s,
        max_errors=given.max_errors,
        max_starts=given.max_starts,
        escalation_rise=given.escalation_rise,
        min_answers=given.min_answers,
    )


def _meter(settings: DeviceSettings, stopwatch: Stopwatch) -> EnergyMeter:
    profiles = load_profiles()
    if settings.profile not in profiles:
        raise InputError(f"profile is {settings.profile!r}: use one of {', '.join(sorted(profiles))}")
    sensors = find_sensors(settings.sysfs)
    return EnergyMeter(
        PriceBook.load_default(), profiles[settings.profile], PowerMeter(sensors, stopwatch) if sensors else None
    )


def _store(home: DeviceHome, settings: DeviceSettings) -> DeviceStore:
    # The queue's bound is in bytes; the number of rows only keeps counting them cheap.
    limits = Limits(outbox=1_000_000, outbox_bytes=settings.queue.max_bytes)
    return open_file(home.store, limits=limits)
