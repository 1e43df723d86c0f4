import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORLD = Path(__file__).with_name("fleet_world.py")
PATIENCE_S = 120.0
ROOT = str(Path(__file__).parents[2])


@pytest.fixture(scope="session")
def world():
    """The module ``fleet_world.py``."""
    spec = importlib.util.spec_from_file_location("fleet_world", WORLD)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Processes:
    """A fleet's processes by name; all of them end with the test."""

    def __init__(self, world, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.running: dict[str, subprocess.Popen] = {}

    def superlink(self) -> None:
        command, environment = self.world.superlink(self.folder)
        self._start("superlink", command, environment)

    def rounds(self) -> None:
        self._start("rounds", [sys.executable, str(WORLD), "rounds", str(self.folder)], self.world.ENVIRONMENT)

    def devices(self, *names: str) -> None:
        command = [sys.executable, str(WORLD), "devices", str(self.folder), *names]
        self._start(names[0].partition(":")[0], command, self.world.ENVIRONMENT)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def wait_for(self, what: str, condition, patience_s: float = PATIENCE_S):
        """The first true value of ``condition()``; a process that has ended on its own fails the test."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.2)
        pytest.fail(f"waited in vain for {what}:\n{self.logs()}")
        raise AssertionError

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))

    def end(self) -> None:
        for name in list(self.running):
            self.kill(name)

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        environment = {**environment, "PYTHONPATH": os.pathsep.join([ROOT, environment.get("PYTHONPATH", "")])}
        with (self.folder / f"{name}.log").open("a") as log:
            self.running[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def processes(world, tmp_path_factory):
    """A folder for a fleet, and its processes."""
    fleet = Processes(world, tmp_path_factory.mktemp("fleet"))
    yield fleet
    fleet.end()
