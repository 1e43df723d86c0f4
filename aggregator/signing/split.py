"""Take the enrollment key and the release keys out of a server's folder, into a folder for another machine."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from aggregator.fleet.authority import Authority
from aggregator.fleet.presigned import keep_signed_revocations, make_presigned
from aggregator.releases.publication import tuf_repository
from aggregator.releases.registry import ReleaseRegistry
from aggregator.settings import ServerHome
from aggregator.signing.machine import SigningState
from fedge.errors import InputError
from fedge.identity.files import make_private_folder, read_file, write_file
from fedge.release import load_private_key, save_public_key


def split_keys(home: ServerHome, folder: Path, *, now: float) -> list[str]:
    """Move the keys into ``folder``, which must be new; return the files that the server's folder no longer has.

    Nothing is removed before all of it is in ``folder``. Raises InputError.
    """
    authority, settings = Authority(home.authority), home.settings()
    if authority.is_presigned:
        raise InputError(f"the keys of {home.folder} are on another machine already")
    if folder.exists():
        raise InputError(f"{folder} exists: give a new folder for the keys")
    if any(home.authority.glob("identity-next.pem")):
        raise InputError("a change of the enrollment key is under way: finish it with `fedge keys switch authority` first")
    moved = {
        home.authority / "identity.pem": "identity.pem",
        home.keys / "release.pem": "release.pem",
        home.tuf / "keys" / "release.key": "targets.pem",
        **{path: f"root/{path.name}" for path in home.tuf.glob("root/*.key")},
    }
    registry = ReleaseRegistry(home.registry, authority.trust().release_key)
    active = registry.active()
    if active is None:
        raise InputError(f"{home.folder} has no release yet: run `fedge server init` first")
    public = load_private_key(home.keys / "release.pem").public_key()
    revocations = authority.signed_revocations(now=now)
    for path, name in moved.items():
        make_private_folder((folder / name).parent)
        write_file(folder / name, read_file(path))
    write_file(folder / "trust.json", authority.trust().to_bytes())
    _copy_database(home.authority / "enrolment.sqlite", folder / "enrolment.sqlite")
    version = tuf_repository(home, settings).targets_version()
    SigningState(
        targets_version=version,
        manifest=registry.manifest(active)[0],
        certificate_s=settings.certificate_hours * 3600.0,
    ).write(folder / "state.json")
    make_presigned(home.authority)
    keep_signed_revocations(home.authority, revocations)
    save_public_key(home.keys / "release.pub", public)
    for path in moved:
        path.unlink()
    shutil.rmtree(home.tuf / "root", ignore_errors=True)
    return [str(path.relative_to(home.folder)) for path in moved]


def _copy_database(source: Path, target: Path) -> None:
    target.touch(mode=0o600)
    try:
        with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
            live.backup(copy)
            copy.execute("DELETE FROM token")  # of no use there
            copy.commit()
    except sqlite3.Error as error:
        raise InputError(f"cannot copy {source}: {error}") from None
