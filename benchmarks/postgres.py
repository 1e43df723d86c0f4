"""A PostgreSQL of one's own from Debian's packages, for as long as a block lasts: for tests and benchmarks."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: float(found.parent.name))
START_S = 60.0


def missing() -> str | None:
    """Why none can be started here; None where one can."""
    if not PROGRAMS:
        return "Debian's postgresql is not installed"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: fedge's extra `postgres`"
    if os.geteuid() == 0 and (shutil.which("setpriv") is None or not _has_account()):
        return "root cannot run PostgreSQL: there is no account `postgres` to run it as"
    return None


@contextmanager
def local_postgres() -> Iterator[str]:
    """The URL of an empty server that listens on a socket in a folder of its own; both are gone afterwards.

    PostgreSQL refuses to run as root: root starts it as the account `postgres`.
    """
    with tempfile.TemporaryDirectory(prefix="fedge-pg-") as name:  # short: a socket's path has 107 bytes at most
        folder = Path(name)
        run_as: list[str | Path] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            run_as = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        data, log = folder / "data", folder / "log"
        made = [*run_as, PROGRAMS[-1] / "initdb", "-D", data, "-U", "fedge", "--encoding=UTF8", "--auth=trust", "--no-sync"]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, cwd="/")
        # A server that is thrown away need not survive a power cut.
        options = ("-k", folder, "-c", "listen_addresses=", "-c", "max_wal_size=4GB", "-c", "fsync=off")
        with log.open("wb") as output:
            server = subprocess.Popen(
                [*run_as, PROGRAMS[-1] / "postgres", "-D", data, *options], stdout=output, stderr=output, cwd="/"
            )
        try:
            _wait(server, folder, log)
            yield f"postgresql://fedge@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # "fast": without waiting for clients
            try:
                server.wait(timeout=START_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait(server: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        ready: list[str | Path] = [PROGRAMS[-1] / "pg_isready", "-q", "-h", folder, "-U", "fedge"]
        if subprocess.run(ready, check=False, cwd="/").returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-500:]}")


def _has_account() -> bool:
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return False
    return True
