"""The whole system on this machine: a server's parts and N devices, each a process of its own, over real mutual TLS.

Starts things in the order in which they need each other, waits until each says that it serves, enrols devices with join
tokens like any other device, and waits until every agent has a release. Whatever fails ends all that was started. What runs
is told to `fedge down` by files in ``run/``; nothing else is ever ended.
"""

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aggregator.fleet.authority import Authority
from aggregator.fleet.key_rotation import set_calendar
from aggregator.fleet.published import publish
from aggregator.processes import PARTS, console_url, ready_line, secagg_label
from aggregator.rounds.client_selection import least_sum
from aggregator.settings import ServerHome, ServerSettings
from cli.console_account import NAME, ensure_operator
from cli.joining import join_device
from cli.local_api import exchange
from cli.local_server import ONE_THREAD, part_command, prepare_server
from cli.processes import ProcessFolder, Started
from edge_client.agent_file import RunningAgent
from edge_client.inference.policy_file import load_policy
from edge_client.settings import DeviceHome, DeviceSettings
from fedge.errors import FedgeError, InputError
from fedge.settings_text import with_values

SERVING_S, AGENTS_S = 90.0, 120.0
POLL_S = 0.05
# What a person who watches wants, where nobody has set anything else: rounds often, releases soon and for all devices.
PERIOD_S, SYNC_S = 20.0, 3.0
CALENDAR_S = 10.0
"""A day of the calendar, compressed for a demonstration."""
FIRST_API_PORT = 8760
MOST_DEVICES = 64
SMALL_FLEET = 16
"""Devices below which a sum needs 8 of them, or all."""

Stage = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LocalFleet:
    """The folder that holds ``server/``, ``devices/``, ``run/`` and ``logs/``."""

    home: Path

    @property
    def server(self) -> ServerHome:
        """The server's folder."""
        return ServerHome(self.home / "server")

    @property
    def processes(self) -> ProcessFolder:
        """What runs, and its logs."""
        return ProcessFolder(self.home / "run", self.home / "logs")

    @property
    def summary_file(self) -> Path:
        """What `fedge up` said when it was done."""
        return self.home / "run" / "up.json"

    def device(self, number: int) -> DeviceHome:
        """The folder of device ``number``, from 1."""
        return DeviceHome(self.home / "devices" / f"device-{number:02d}")


def start(
    fleet: LocalFleet,
    *,
    devices: int,
    workload: str | None,
    data: Path | None,
    stage: Stage,
    policy: Path | None = None,
) -> dict[str, Any]:
    """Bring everything up and return what there is to know. Raises InputError where it runs already, FedgeError where
    something does not come up: all that was started is ended then. ``policy``: of all devices; None leaves theirs.
    """
    if policy is not None:
        policy = policy.expanduser().absolute()
        load_policy(policy)
    if not 2 <= devices <= MOST_DEVICES:
        raise InputError(f"--devices {devices}: start 2 to {MOST_DEVICES}; learning together needs at least 2")
    with _alone(fleet):
        _refuse_second_start(fleet)
        prepare_server(fleet.server, workload=workload, data=data, stage=stage)
        begun = time.monotonic()
        _fit_settings(fleet, devices, stage)
        _sign_calendar(fleet)
        password_file = ensure_operator(fleet.server)
        started: list[Started] = []
        homes = [fleet.device(number) for number in range(1, devices + 1)]
        try:
            parts = _start_server(fleet, started, stage)
            _wait([parts["door"]], _says_ready, seconds=SERVING_S, stage=stage)
            _join_devices(fleet, homes, stage, policy)
            # An agent that misses central at its start waits longer and longer before it looks again.
            _wait([parts["central"]], _says_ready, seconds=SERVING_S, stage=stage)
            agents = _start_agents(fleet, homes, started, stage)
            _wait(list(parts.values()), _says_ready, seconds=SERVING_S, stage=stage)
            _wait(list(agents), lambda agent: _is_ready(agents[agent]), seconds=AGENTS_S, stage=stage)
        except BaseException:
            fleet.processes.stop([one.background for one in started])
            raise
        summary = _summary(fleet, homes, seconds=time.monotonic() - begun, password_file=password_file)
        fleet.summary_file.write_text(json.dumps(summary), encoding="utf-8")
        return summary


def stop(fleet: LocalFleet) -> tuple[list[str], list[str]]:
    """End what `start` started; returns the names of all, and of those that had to be killed."""
    if not fleet.processes.folder.is_dir():
        return [], []
    with _alone(fleet):
        remembered = fleet.processes.remembered()
        killed = fleet.processes.stop(remembered)
        fleet.summary_file.unlink(missing_ok=True)
        return [one.name for one in remembered], killed


@contextmanager
def _alone(fleet: LocalFleet) -> Iterator[None]:
    """Holds the home, so that two commands at once do not start things twice."""
    folder = fleet.processes.folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    except OSError as error:
        raise InputError(f"--home {fleet.home} cannot be used: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another fedge up or down is at work in {fleet.home}: wait for it") from None
        yield


def _refuse_second_start(fleet: LocalFleet) -> None:
    remembered = fleet.processes.remembered()
    running = [one for one in remembered if one.members()]
    if not running:
        fleet.processes.stop(remembered)  # of a machine that was switched off, say
        return
    gone = [one.name for one in remembered if one not in running]
    more = f", without {', '.join(gone)}, which ended by itself" if gone else ""
    raise InputError(f"the system runs already in {fleet.home} ({len(running)} processes{more}): fedge down ends it")


def _fit_settings(fleet: LocalFleet, devices: int, stage: Stage) -> None:
    """Cohorts of what there is, ports that are free, and a pace to watch where nobody has set another."""
    settings, defaults = fleet.server.settings(), ServerSettings()
    cohort = min(devices, defaults.rounds.cohort)
    values: dict[str, object] = {"rounds.cohort": cohort, "rounds.n_min": least_sum(cohort)}
    if settings.rounds.period_s == defaults.rounds.period_s:
        values["rounds.period_s"] = PERIOD_S
    if settings.rounds.calendar_s == defaults.rounds.calendar_s:
        values["rounds.calendar_s"] = CALENDAR_S
    if settings.releases.canary_share == defaults.releases.canary_share:
        values["releases.canary_share"] = 0.0
    taken: set[int] = set()
    for name in ServerSettings.model_fields:
        if name.endswith("_port"):
            wanted = getattr(settings, name)
            port = _free_port(wanted, taken)
            if port != wanted:
                stage(f"port {wanted} is taken: {name} in server.toml is {port} from now on")
                values[name] = port
    file = fleet.server.settings_file
    _rewrite(file, values)


def _sign_calendar(fleet: LocalFleet) -> None:
    """Let the trust root name the calendar of the settings."""
    settings = fleet.server.settings()
    authority = Authority(fleet.server.authority)
    set_calendar(authority, settings.rounds.calendar_s)
    publish(authority, fleet.server, settings.names, now=time.time())


def _free_port(wanted: int, taken: set[int]) -> int:
    """``wanted`` if it is free, else any free one; never one of ``taken``, which it joins."""
    for port in (wanted, 0, 0, 0, 0):
        if port in taken:
            continue
        try:
            with socket.create_server(("127.0.0.1", port)) as found:
                number = int(found.getsockname()[1])
        except OSError:
            continue
        if number not in taken:
            taken.add(number)
            return number
    raise FedgeError("this machine has no free port on loopback")


def _start_server(fleet: LocalFleet, started: list[Started], stage: Stage) -> dict[str, Started]:
    stage("starting the server's processes")
    environment = {**ONE_THREAD, **os.environ}
    parts: dict[str, Started] = {}
    for part in PARTS:
        parts[part] = fleet.processes.start(part, part_command(part, fleet.server), environment=environment)
        started.append(parts[part])
    return parts


def _says_ready(part: Started) -> bool:
    return ready_line(part.name) in part.output()


def _join_devices(fleet: LocalFleet, homes: Sequence[DeviceHome], stage: Stage, policy: Path | None) -> None:
    settings = fleet.server.settings()
    taken: set[int] = set()
    for number, home in enumerate(homes):
        stage(f"enrolling {home.folder.name}")
        join_device(fleet.server, home)
        present = home.settings()
        ours = present.api.port if present.api.port != FIRST_API_PORT else FIRST_API_PORT + number
        values: dict[str, object] = {
            "min_cohort": min(DeviceSettings.model_fields["min_cohort"].default, settings.rounds.n_min),
            "min_period_s": min(DeviceSettings.model_fields["min_period_s"].default, settings.rounds.calendar_s),
            "sync_s": SYNC_S,
            "fleet": f"127.0.0.1:{settings.fleet_port}",
            "central": f"127.0.0.1:{settings.central_port}",
            "api.port": _free_port(ours, taken),
            # Where a sum needs nearly every device, none may stay at home for the shape of its update: a demonstration.
            **({"training.max_example_share": 1.0} if len(homes) < SMALL_FLEET else {}),
            **({} if policy is None else {"policy": str(policy)}),
        }
        _rewrite(home.settings_file, values)


def _start_agents(
    fleet: LocalFleet, homes: Sequence[DeviceHome], started: list[Started], stage: Stage
) -> dict[Started, DeviceHome]:
    stage("starting the agents")
    environment = {**ONE_THREAD, **os.environ}
    agents: dict[Started, DeviceHome] = {}
    for home in homes:
        command = [sys.executable, "-m", "cli.main", "device", "run", "--home", str(home.folder)]
        agent = fleet.processes.start(home.folder.name, command, environment=environment)
        agents[agent] = home
        started.append(agent)
    return agents


def _is_ready(home: DeviceHome) -> bool:
    """Whether an agent answers with a release of its own and reaches central."""
    running = RunningAgent.of(home)
    if running is None:
        return False
    try:
        _, health = exchange(running.url, "GET", "/health")
    except InputError:
        return False
    return bool(health.get("ready")) and health.get("release") is not None and health.get("central") == "in reach"


def _wait(processes: Sequence[Started], is_up: Callable[[Started], bool], *, seconds: float, stage: Stage) -> None:
    """Until all are up. Raises FedgeError with the end of the log of the first that is over or too late."""
    deadline = time.monotonic() + seconds
    waiting = list(processes)
    while waiting:
        ended = next((one for one in waiting if one.has_ended()), None)
        late = waiting[0] if time.monotonic() > deadline else None
        if failed := ended or late:
            why = f"ended with exit code {failed.process.returncode}" if ended else f"did not come up in {seconds:.0f} s"
            raise StartFailed(failed.name, why, failed.last_words(), failed.log)
        waiting = [one for one in waiting if not is_up(one)]
        if waiting:
            stage(f"waiting for {', '.join(one.name for one in waiting)}")
            time.sleep(POLL_S)


class StartFailed(FedgeError):  # noqa: N818 - what became of a start
    """A process did not come up. ``tail``: the end of what it said."""

    def __init__(self, name: str, why: str, tail: str, log: Path) -> None:
        super().__init__(f"{name} {why}, so everything was ended again; its log is {log}")
        self.tail = tail


def _summary(
    fleet: LocalFleet, homes: Sequence[DeviceHome], *, seconds: float, password_file: Path | None
) -> dict[str, Any]:
    settings = fleet.server.settings()
    agents = {home.folder.name: running.url for home in homes if (running := RunningAgent.of(home)) is not None}
    return {
        "home": str(fleet.home),
        "workload": settings.workload,
        "devices": len(homes),
        "secagg": secagg_label(settings),
        "rounds": {
            "cohort": settings.rounds.cohort,
            "n_min": settings.rounds.n_min,
            "period_s": settings.rounds.period_s,
        },
        "addresses": {
            "console": console_url(settings, settings.console_port),
            "door": f"{settings.host}:{settings.fleet_port}",
            "central": f"{settings.host}:{settings.central_port}",
            "superlink": f"127.0.0.1:{settings.superlink_port}",
            "agents": agents,
        },
        "console_login": None if password_file is None else {"account": NAME, "password_file": str(password_file)},
        "logs": str(fleet.processes.logs),
        "healthy_after_s": round(seconds, 3),
    }


def _rewrite(file: Path, values: dict[str, object]) -> None:
    """Change values in a settings file in one step."""
    staging = file.with_name(f".{file.name}.new")
    staging.write_text(with_values(file.read_text(encoding="utf-8"), values), encoding="utf-8")
    staging.chmod(file.stat().st_mode & 0o777)
    staging.replace(file)
