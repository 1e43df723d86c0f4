"""A PostgreSQL of our own for a while: Debian's programs, a folder that goes again, a Unix socket and no port."""

import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedge.errors import InputError

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
START_S = 60.0


@contextmanager
def temporary_postgres() -> Iterator[str]:
    """The URL of an empty database. Raises InputError where PostgreSQL is not installed or does not start."""
    if not PROGRAMS:
        raise InputError("PostgreSQL is not under /usr/lib/postgresql: install Debian's postgresql, or measure SQLite alone")
    demoted: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(prefix="fedge-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:  # it refuses to run as root
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            demoted = ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
        programs, data = PROGRAMS[-1], folder / "data"
        _run(*demoted, programs / "initdb", "-D", data, "-U", "fedge", "--encoding=UTF8", "--auth=trust")
        command = [*demoted, programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="]
        server = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(programs / "pg_isready", folder, server)
            _run(programs / "createdb", "-h", folder, "-U", "fedge", "fedge")
            yield f"postgresql://fedge@/fedge?host={folder}"
        finally:
            server.terminate()
            server.wait()


def _wait(is_ready: Path, folder: Path, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_S
    while subprocess.run([is_ready, "-q", "-h", folder], check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > until:
            raise InputError(f"PostgreSQL in {PROGRAMS[-1]} does not start: try its initdb and postgres by hand")
        time.sleep(0.1)


def _run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        raise InputError(f"{command[-1]}: {done.stderr.strip()[-300:]}")
