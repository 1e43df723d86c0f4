"""An emulated Raspberry Pi 4: qemu's Cortex-A72, Debian's Python for arm64 and the very wheels that a device installs.

    python tests/emulated/board.py        prepares it (about a minute and 500 MB) and says where

Needs no root, no Docker and no change to this system: apt works in a folder of its own. Everything lies in
$FEDGE_EMULATED_BOARD, or ~/.cache/fedge/cortex-a72, and is made anew when a locked version changes.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedge.telemetry import TELEMETRY_SWITCHES

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PYTHON = "3.11"
PACKAGES = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RECIPE = 1
CORES = 4

CPUINFO = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


class NotPrepared(Exception):
    """Why there is no emulated board here."""


@dataclass(frozen=True)
class Board:
    """Where its parts lie."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def site(self) -> Path:
        return self.folder / "site"

    @property
    def qemu(self) -> Path:
        return self.folder / "qemu-aarch64"

    def python(self, *arguments: str) -> list[str]:
        """The command that runs Python on the board."""
        interpreter = self.root / f"usr/bin/python{PYTHON}"
        return [str(self.qemu), "-cpu", "cortex-a72", "-L", str(self.root), str(interpreter), *arguments]

    def environment(self) -> Mapping[str, str]:
        """The variables that go with it: only what a device installs, and this checkout, can be imported."""
        quiet = {**TELEMETRY_SWITCHES, "OPENBLAS_NUM_THREADS": "1"}
        path = os.pathsep.join((str(REPOSITORY), str(self.site)))
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": path, "LC_ALL": "C.UTF-8", **quiet}


def folder() -> Path:
    """Where the board is kept."""
    named = os.environ.get("FEDGE_EMULATED_BOARD")
    return Path(named).absolute() if named else Path.home() / ".cache" / "fedge" / "cortex-a72"


def prepare() -> Board:
    """The board, made where it is not there or made of other versions. Raises NotPrepared with the reason."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise NotPrepared("the emulator is set up on x86_64 Linux only")
    requirements = _run([sys.executable, "-m", "uv", "export", "--frozen", "--extra", "device", "--no-emit-project", "-q"])
    stamp = hashlib.sha256(f"{RECIPE} {SUITE} {PYTHON} {PACKAGES}\n{requirements}".encode()).hexdigest()
    board = Board(folder())
    board.folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{board.folder}.lock").open("w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = board.folder / "made-of"
        if not made.is_file() or made.read_text() != stamp:
            _make(board, requirements)
            made.write_text(stamp)
    return board


def _make(board: Board, requirements: str) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise NotPrepared(f"there is no {tool}: the board's system comes from Debian's packages")
    if not KEYRING.is_file():
        raise NotPrepared(f"{KEYRING} is missing: install debian-archive-keyring")
    made = board.folder / "made-of"
    if board.folder.is_dir() and any(board.folder.iterdir()) and not made.is_file():
        raise NotPrepared(f"{board.folder} holds something else: name another folder in FEDGE_EMULATED_BOARD")
    shutil.rmtree(board.folder, ignore_errors=True)
    board.folder.mkdir()
    made.write_text("unfinished")
    _emulator(board)
    _system(board)
    _like_a_pi(board)
    _wheels(board, requirements)
    shutil.rmtree(board.folder / "apt")


def _emulator(board: Board) -> None:
    installed = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if installed:
        board.qemu.symlink_to(installed)
        return
    unpacked = board.folder / "tools"
    for package in _fetch(board, "amd64", ["qemu-user-static"], with_dependencies=False):
        _run(["dpkg-deb", "-x", str(package), str(unpacked)])
    shutil.move(unpacked / "usr/bin/qemu-aarch64-static", board.qemu)
    shutil.rmtree(unpacked)


def _system(board: Board) -> None:
    board.root.mkdir()
    for package in _fetch(board, "arm64", PACKAGES, with_dependencies=True):
        _run(["dpkg-deb", "-x", str(package), str(board.root)])


def _fetch(board: Board, architecture: str, packages: Sequence[str], *, with_dependencies: bool) -> list[Path]:
    """Debian packages, by an apt that knows nothing of this system and leaves nothing on it."""
    home = board.folder / "apt" / architecture
    archives = home / "cache/archives"
    for each in (home / "state/lists/partial", archives / "partial", home / "etc"):
        each.mkdir(parents=True)
    sources = home / "etc/sources.list"
    signed = f"[signed-by={KEYRING}]"
    archive = _archive()
    sources.write_text(
        f"deb {signed} {archive} {SUITE} main\ndeb {signed} {archive}-security {SUITE}-security main\n", encoding="ascii"
    )
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "APT::Sandbox::User": "",
        "Dir::State": str(home / "state"),
        "Dir::State::status": "/dev/null",
        "Dir::Cache": str(home / "cache"),
        "Dir::Etc::SourceList": str(sources),
        "Dir::Etc::SourceParts": "/dev/null",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "-qq", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
    _run([*apt, "update"])
    if with_dependencies:
        _run([*apt, "--yes", "--no-install-recommends", "--download-only", "install", *packages])
    else:
        _run([*apt, "download", *packages], cwd=archives)
    found = sorted(archives.glob("*.deb"))
    if not found:
        raise NotPrepared(f"apt brought none of {', '.join(packages)}")
    return found


def _archive() -> str:
    """Where this system itself has its Debian packages from."""
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        if path.is_file() and (found := re.search(r"https?://\S+/debian(?=/?\s)", path.read_text(errors="replace"))):
            return found[0]
    raise NotPrepared("apt's sources name no Debian archive: the board's system comes from there")


def _like_a_pi(board: Board) -> None:
    """What onnxruntime looks up about the processor: without these files the host's are read, and importing it crashes."""
    (board.root / "proc").mkdir(exist_ok=True)
    (board.root / "proc/cpuinfo").write_text("".join(CPUINFO.format(n=n) for n in range(CORES)))
    cpu = board.root / "sys/devices/system/cpu"
    every = f"0-{CORES - 1}"
    files = dict.fromkeys(("possible", "present", "online"), every) | {"kernel_max": "255"}
    for n in range(CORES):
        topology = {
            "physical_package_id": "0",
            "core_id": n,
            "cluster_id": "0",
            "core_siblings_list": every,
            "thread_siblings_list": n,
            "core_siblings": f"{(1 << CORES) - 1:x}",
            "thread_siblings": f"{1 << n:x}",
        }
        files |= {f"cpu{n}/topology/{name}": value for name, value in topology.items()}
        files[f"cpu{n}/regs/identification/midr_el1"] = "0x00000000410fd083"
    for name, content in files.items():
        path = cpu / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def _wheels(board: Board, requirements: str) -> None:
    """Exactly what uv.lock pins for a device, hashes checked, as aarch64 wheels."""
    listed = board.folder / "requirements.txt"
    listed.write_text(requirements)
    platform = ["--python-platform", "aarch64-manylinux_2_28", "--python-version", PYTHON]
    install = [sys.executable, "-m", "uv", "pip", "install", "-q", "--target", str(board.site), *platform]
    _run([*install, "--only-binary", ":all:", "--no-deps", "--require-hashes", "-r", str(listed)])
    if sys.version_info[:2] == tuple(map(int, PYTHON.split("."))):
        # Compiling is slow under emulation, and the result is the same here.
        _run([sys.executable, "-m", "compileall", "-q", "-j", "2", str(board.site)])
        _run(
            [sys.executable, "-m", "compileall", "-q", "-j", "2", str(board.root / f"usr/lib/python{PYTHON}")], may_fail=True
        )


def _run(command: Sequence[str], *, cwd: Path = REPOSITORY, may_fail: bool = False) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotPrepared(f"{command[0]}: {error}") from error
    if done.returncode and not may_fail:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise NotPrepared(f"{' '.join(command[:4])} ... failed: {said}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(prepare().folder)
    except NotPrepared as reason:
        raise SystemExit(f"no emulated board: {reason}") from None
