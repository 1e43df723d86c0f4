"""Runs the services of docker-compose.yml as local processes: their very commands and environments, volumes as folders.

All share one network namespace of their own, as the containers share the host's network, so the ports in the file are free.
It never starts an image and never reaches another network.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fedge.telemetry import TELEMETRY_SWITCHES

PATIENCE_S = 120.0


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """As Compose does it with ``${NAME:-default}``."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: variables.get(match[1]) or match[2], text)


def eventually(what: Callable[[], Any], named: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, f"{named} did not come about"
        time.sleep(0.3)
    return found


@dataclass
class Composed:
    """Services of a parsed file. ``folder`` holds the volumes and ``programs`` (a `fedge` that is this checkout's)."""

    services: dict[str, Any]
    root: Path
    folder: Path
    programs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> "Composed":
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"], stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"up\n":
            self._holder.wait()
            raise OSError("no network namespace")
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.running.values()):
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._holder.terminate()
        self._holder.communicate()

    def volumes(self, name: str) -> dict[str, Path]:
        """Where each of a service's mounts stands on this machine."""
        found = {}
        for mount in self.services[name].get("volumes", []):
            source, target = mount.split(":")[:2]
            found[target] = self.root / source if source.startswith(".") else self.folder / source
            found[target].mkdir(exist_ok=True)
        return found

    def placed(self, name: str, text: str) -> str:
        """``text`` with the container's folders as this machine's."""
        places = self.volumes(name)
        if not places:
            return text
        longest = sorted(places, key=len, reverse=True)
        pattern = r"(?<![\w/.-])(" + "|".join(map(re.escape, longest)) + r")(?![\w-])"
        return re.sub(pattern, lambda match: str(places[match[1]]), text)

    def command(self, name: str) -> list[str]:
        """Entry point and arguments; those of an image without one in the file are its own."""
        service = self.services[name]
        images = {"postgres": [], "prom/prometheus": ["prometheus"]}
        image = service["image"].split(":")[0]
        entry = service.get("entrypoint") or images.get(image, ["fedge"])
        return [*entry, *(self.placed(name, part) for part in service.get("command", []))]

    def environment(self, name: str) -> dict[str, str]:
        """What the file says, with what the Dockerfiles add."""
        home = self.volumes(name).get("/data", self.folder)
        added = {**TELEMETRY_SWITCHES, "FLWR_HOME": str(home / "flwr")}
        added |= {
            "FEDGE_HOME": str(home),
            "PYTHONPATH": os.pathsep.join([str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.folder),
        }
        path = f"{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"PATH": path, **added, **self.services[name].get("environment", {})}

    def inside(self, *command: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command in the services' network to its end."""
        whole = [*self._enter, *map(str, command)]
        environment = env or self.environment("console")
        return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=300, env=environment)

    def run(self, name: str) -> None:
        """A service that ends by itself, such as `init`."""
        done = self.inside(*self.command(name), env=self.environment(name))
        assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"

    def start(self, name: str, *before: str) -> None:
        """A service that stays. ``before`` goes in front of its command."""
        log: IO[bytes]
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [*self._enter, *before, *self.command(name)]
            self.running[name] = subprocess.Popen(command, env=self.environment(name), stdout=log, stderr=log)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def healthy(self, name: str, *check: object) -> None:
        """Waits until a check of health, run as the service would run it, is content."""

        def well() -> bool:
            assert self.running[name].poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
            return self.inside(*check, env=self.environment(name)).returncode == 0

        eventually(well, f"{name}'s health")

    @property
    def _enter(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--"]
