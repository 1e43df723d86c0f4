"""A copy of what a server cannot make again: its keys, its records of devices, and what devices pinned.

Models, rounds and releases are not in it: they have stores of their own. The copy holds private keys: as secret as they are.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from aggregator.settings import ServerHome
from fedge.errors import InputError
from fedge.identity.files import make_private_folder, read_file, write_file

PARTS = ("authority", "keys", "tuf/keys", "tls", "server.toml", "trust.json", "revocations")


def back_up(home: ServerHome, folder: Path) -> list[str]:
    """Copies into a new folder (mode 0700, files 0600); gives the names. A running door may go on. Raises InputError."""
    if folder.exists():
        raise InputError(f"{folder} exists: a backup goes into a new folder")
    if not home.authority.is_dir():
        raise InputError(f"{home.folder} holds no enrolment authority: nothing to back up")
    names: list[str] = []
    make_private_folder(folder)
    for part in PARTS:
        source = home.folder / part
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file() and not path.name.endswith(("-wal", "-shm", ".new")):
                name = path.relative_to(home.folder)
                make_private_folder((folder / name).parent)
                _copy(path, folder / name)
                names.append(str(name))
    return names


def _copy(source: Path, target: Path) -> None:
    if source.suffix != ".sqlite":
        write_file(target, read_file(source, max_bytes=64 << 20))
        return
    # A database that is in use is copied by SQLite itself: its file alone may lack the last transactions.
    target.touch(mode=0o600)
    try:
        with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
            live.backup(copy)
    except sqlite3.Error as error:
        raise InputError(f"cannot copy {source}: {error}") from None
