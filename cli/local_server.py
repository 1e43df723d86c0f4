"""A server on this machine: set up, and all of its parts as processes in the foreground."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from aggregator.processes import PARTS
from aggregator.settings import ServerHome, ServerSettings
from fedge.errors import FedgeError
from fedge.settings import parse_settings
from fedge.settings_text import as_toml, with_values

if TYPE_CHECKING:
    from aggregator.bootstrap import Outcome

GRACE_S = 15.0
# One process a part on few cores: threads of their own would only wait for each other.
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


def prepare_server(
    home: ServerHome,
    *,
    workload: str | None = None,
    data: Path | None = None,
    names: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    force_models: bool = False,
    stage: Callable[[str], None],
) -> "Outcome":
    """`fedge server init`. What is not given is what stands in the home's settings, or the default. Raises InputError.

    ``settings``: further values for server.toml, by dotted key; they replace those that stand there.
    """
    stands = home.settings() if home.settings_file.is_file() else ServerSettings()
    given = {"workload": workload, "data": None if data is None else data.absolute(), "names": tuple(names) or None}
    wanted = stands.model_copy(update={key: value for key, value in given.items() if value is not None})
    wanted = _with(home, wanted, settings) if settings else wanted
    stage("loading the workbench")
    from aggregator.bootstrap import initialize

    return initialize(home, wanted, force_models=force_models, stage=stage)


def _with(home: ServerHome, wanted: ServerSettings, values: Mapping[str, object]) -> ServerSettings:
    """``wanted`` with ``values``, which are written where server.toml stands already. Raises InputError for a wrong one."""
    there = home.settings_file
    if there.is_file():
        text = with_values(there.read_text(encoding="utf-8"), values)
        parse_settings(ServerSettings, text, source=str(there))
        there.write_text(text, encoding="utf-8")
    return parse_settings(ServerSettings, with_values(as_toml(wanted), values), source="--set")


def part_command(part: str, home: ServerHome) -> list[str]:
    """The command of one part's process."""
    return [sys.executable, "-m", "cli.main", "server", "run", part, "--home", str(home.folder)]


def run_all(home: ServerHome) -> None:
    """Run every part as a process until SIGTERM or Ctrl-C. Raises FedgeError when one of them ends by itself."""
    home.settings()
    environment = {**ONE_THREAD, **os.environ}
    stopping: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    running = {part: subprocess.Popen(part_command(part, home), env=environment) for part in PARTS}  # noqa: S603
    ended: list[str] = []
    try:
        while not stopping and not ended:
            time.sleep(0.1)
            ended = [part for part, process in running.items() if process.poll() is not None]
    finally:
        for process in running.values():
            process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process in running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if ended:
        raise FedgeError(f"{ended[0]} ended by itself (exit code {running[ended[0]].returncode}), so the others were ended")
