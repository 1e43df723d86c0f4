"""The machine's own part of the examination: processor, C library, Python, onnxruntime, memory, power.

onnxruntime is imported and run in a process of its own, so that a processor without the instructions it was built for is a
line here and not the end of the doctor. Nothing of it, nor of gRPC, is imported in this process.
"""

import os
import platform
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_client.doctor.finding import Finding, fail, ok, warn
from edge_client.power import SensorError, find_sensors
from edge_client.power.pmic import COMMAND
from fedge.telemetry import find_enabled_telemetry

SUPPORTED = ("x86_64", "aarch64", "arm64")
GLIBC = (2, 28)
PYTHONS = ((3, 11), (3, 13))
START_TIMEOUT_S = 120.0
LEAST_MEMORY_MB, GOOD_MEMORY_MB = 160, 256
INSTALL = "see docs/install.md"

# y = x + x over four floats, as onnx.helper writes it: a test compares.
MODEL_HEX = (
    "080a12003a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a020804620f0a0179120a0a08080112040a0208044"
    "2040a001012"
)
TRIAL = f"""
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(bytes.fromhex("{MODEL_HEX}"), options, providers=["CPUExecutionProvider"])
(y,) = session.run(None, {{"x": numpy.array([1, 2, 3, 4], numpy.float32)}})
assert y.tolist() == [2, 4, 6, 8], f"1 + 1 is {{y[0]}} here"
print(onnxruntime.__version__)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is examined; the defaults are this machine."""

    architecture: str = field(default_factory=platform.machine)
    pointer_bits: int = 8 * struct.calcsize("P")
    libc: tuple[str, str] = field(default_factory=platform.libc_ver)
    system: str = field(default_factory=platform.system)
    python: tuple[int, int] = (sys.version_info[0], sys.version_info[1])
    interpreter: Sequence[str] = (sys.executable,)
    trial: str = TRIAL
    trial_timeout_s: float = START_TIMEOUT_S
    proc: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    pmic: Sequence[str] = COMMAND
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def examine_machine(machine: Machine) -> list[Finding]:
    """All checks that need no enrolment."""
    return [
        architecture(machine),
        c_library(machine),
        python(machine),
        onnxruntime(machine),
        telemetry(machine),
        memory(machine),
        *power(machine),
    ]


def architecture(machine: Machine) -> Finding:
    """A 64-bit processor, and a 64-bit system on it."""
    name = machine.architecture
    if machine.pointer_bits != 64 or name.startswith(("armv6", "armv7", "i386", "i686")):
        says = f"{name}, {machine.pointer_bits}-bit programs: there is no onnxruntime for 32 bits"
        return fail("architecture", says, f"install a 64-bit system: {INSTALL}")
    if name not in SUPPORTED:
        return warn("architecture", f"{name}: never tried", "x86_64 and aarch64 are the ones that are tested")
    return ok("architecture", f"{name}, 64-bit")


def c_library(machine: Machine) -> Finding:
    """The GNU C library that the wheels were built against."""
    name, version = machine.libc
    if machine.system == "Darwin":
        return ok("c_library", "macOS")
    need = ".".join(map(str, GLIBC))
    if name != "glibc":
        remedy = f"use a system with glibc {need} or newer, such as Debian, Raspberry Pi OS or Ubuntu; Alpine has none"
        return fail("c_library", f"{name or 'no glibc'}: onnxruntime has no wheel for it", remedy)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < GLIBC:
        return fail("c_library", f"glibc {version}, older than {need}", "install a newer release of the system")
    return ok("c_library", f"glibc {version}")


def python(machine: Machine) -> Finding:
    """A version of Python for which there are wheels."""
    shown = ".".join(map(str, machine.python))
    first, last = PYTHONS
    if not first <= machine.python <= last:
        remedy = f"let uv bring its own: uv python install {last[0]}.{last[1] - 1}, then install fedge with it ({INSTALL})"
        return fail("python", f"Python {shown}; fedge needs 3.{first[1]} to 3.{last[1]}", remedy)
    return ok("python", f"Python {shown}")


def onnxruntime(machine: Machine) -> Finding:
    """Imported and run in another process."""
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and a fixed program
            [*machine.interpreter, "-c", machine.trial],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=machine.trial_timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        says = f"importing it took more than {machine.trial_timeout_s:.0f} s"
        return fail("onnxruntime", says, "is the disk or card failing, or memory short? Look at dmesg")
    except OSError as error:
        return fail("onnxruntime", f"{machine.interpreter[0]} cannot be started: {error.strerror}", f"reinstall: {INSTALL}")
    if done.returncode == 0:
        return ok("onnxruntime", f"version {done.stdout.strip()[:40]} imported and run")
    # A shell between the two would say 128 plus the signal.
    number = -done.returncode if done.returncode < 0 else done.returncode - 128
    if number == signal.SIGILL:
        remedy = (
            "this build uses instructions that the processor lacks (1.21.0 on a Raspberry Pi 4 did): "
            "install another version, such as pip install 'onnxruntime>=1.22'"
        )
        return fail("onnxruntime", "died of an illegal instruction (SIGILL)", remedy)
    if number in set(signal.Signals):
        name = signal.Signals(number).name
        return fail("onnxruntime", f"died of {name}", "install another version of onnxruntime, and look at dmesg")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
    return fail("onnxruntime", f"does not run: {last}", f"reinstall: {INSTALL}")


def telemetry(machine: Machine) -> Finding:
    """Report whether a dependency may call its vendor: off, unless the environment turns it on."""
    enabled = find_enabled_telemetry(machine.environment)
    if not enabled:
        return ok("telemetry", "off: neither onnxruntime nor Flower reports to its vendor")
    settings = ", ".join(f"{name}={machine.environment.get(name, '')}" for name in enabled)
    remedy = f"remove {' and '.join(enabled)} from the environment (systemd: /etc/fedge/device.env); fedge sets the rest"
    return warn("telemetry", f"on by the environment: {settings}", remedy)


def memory(machine: Machine) -> Finding:
    """What is left for an agent, which keeps up to 160 MB."""
    try:
        text = (machine.proc / "meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ok("memory", "this system does not say")
    figures = {name: int(kilobytes) for name, kilobytes in re.findall(r"(\w+):\s+(\d+) kB", text)}
    if "MemAvailable" not in figures:
        return ok("memory", "this system does not say")
    left = figures["MemAvailable"] // 1024
    says = f"{left} MB of {figures.get('MemTotal', 0) // 1024} MB available"
    if left < LEAST_MEMORY_MB:
        return fail("memory", says, f"an agent needs {LEAST_MEMORY_MB} MB: end other programs, or take part in no rounds")
    if left < GOOD_MEMORY_MB:
        return warn("memory", says, f"{GOOD_MEMORY_MB} MB would leave room for a round's training")
    return ok("memory", says)


def power(machine: Machine) -> list[Finding]:
    """The sensors in their order, and whether the supply is too weak."""
    findings = []
    for sensor in find_sensors(machine.sysfs, pmic=machine.pmic):
        try:
            sensor.begin(0.0)
        except SensorError as error:
            findings.append(warn("power", f"{sensor.source} gives no figure: {error}", "the next source speaks instead"))
        else:
            findings.append(ok("power", f"{sensor.source} measures the {sensor.scope} ({sensor.where})"))
    if not any(finding.outcome == "ok" for finding in findings):
        findings.append(ok("power", "no sensor: energy is worked out from the device's profile (source: model)"))
    if _undervoltage(machine.sysfs):
        findings.append(warn("supply", "the board reports low voltage", "use the supply and cable that came with the board"))
    return findings


def _undervoltage(sysfs: Path) -> bool:
    """What the firmware of a Raspberry Pi says through hwmon."""
    for name in sorted((sysfs / "class" / "hwmon").glob("hwmon*/name")):
        try:
            if name.read_text().strip() == "rpi_volt" and (name.parent / "in0_lcrit_alarm").read_text().strip() == "1":
                return True
        except (OSError, UnicodeDecodeError):
            continue
    return False
