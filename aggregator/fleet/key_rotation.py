"""Changing keys, and the calendar, while the fleet runs: the round key in one step, the two authorities in two steps with an
overlap.

A round key counts as soon as devices have fetched the root that names it, which the first session under it makes them do
at once. An authority is announced first: from then on devices accept what it signs. Once they know it, the switch lets it
issue, and the old one is accepted while certificates of its own may still be in use. Each step appends one trust root,
signed by the authority that counts before it, and then puts the new key in the old one's place; a step that was cut short is
finished by asking again.

A copy of what a server cannot make again: its keys, its records of devices, and what devices pinned.

Models, rounds and releases are not in it: they have stores of their own. The copy holds private keys: as secret as they are.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.fleet.authority import (
    TLS_AUTHORITY_LIFETIME_S,
    Authority,
    save_tls_authority,
    tls_der,
)
from aggregator.fleet.enrollment import CLOCK_SKEW_S
from aggregator.fleet.keys import load_or_create
from aggregator.settings import ServerHome
from fedge.calendar import Calendar
from fedge.errors import InputError
from fedge.identity import OtherKey, TlsAnchor, TrustRoot, new_tls_authority
from fedge.identity.files import make_private_folder, read_file, write_file
from fedge.identity.trust import FOREVER
from fedge.release import load_private_key

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


Which = Literal["authority", "tls"]
OVERLAP_S = 48 * 3600.0
"""How long the old authority is accepted after the switch: twice the longest life of a device's certificate."""


def rotate_round_key(authority: Authority, home: ServerHome) -> TrustRoot:
    """A new round key. Start the rounds' process again afterwards: it signs with the key that it read at its start."""
    _identity_key(authority)
    fresh = load_or_create(home.keys / "round-next.pem")
    root = authority.trust()
    if root.round_key != fresh.public_key():
        root = replace(root, number=root.number + 1, round_key=fresh.public_key())
        authority.log.append(root, _identity_key(authority))
    (home.keys / "round-next.pem").replace(home.keys / "round.pem")
    return root


def set_calendar(authority: Authority, period_s: float) -> TrustRoot:
    """Let the federation's periods last ``period_s`` seconds from now on. Devices bound them below by their own policy.

    Raises InputError for a length that cannot be.
    """
    root = authority.trust()
    if root.period_s != Calendar(period_s).period_s:
        root = replace(root, number=root.number + 1, period_s=period_s)
        authority.log.append(root, _identity_key(authority))
    return root


def announce(authority: Authority, which: Which, *, now: float) -> TrustRoot:
    """Makes the next authority and lets devices accept it. Announcing twice changes nothing."""
    _identity_key(authority)
    root = authority.trust()
    folder = authority.folder
    if which == "authority":
        others = tuple(other for other in root.other_authority_keys if now <= other.until)
        fresh = OtherKey(load_or_create(folder / "identity-next.pem").public_key(), FOREVER)
        if fresh in others:
            return root
        root = replace(root, number=root.number + 1, other_authority_keys=(*others, fresh))
    else:
        if not (folder / "tls-next.crt").is_file():
            end = now + TLS_AUTHORITY_LIFETIME_S
            save_tls_authority(folder, "tls-next", new_tls_authority(not_before=now - CLOCK_SKEW_S, not_after=end))
        anchors = tuple(anchor for anchor in root.tls_anchors if now <= anchor.until)
        anchor = TlsAnchor(tls_der(read_file(folder / "tls-next.crt")), FOREVER)
        if anchor in anchors:
            return root
        root = replace(root, number=root.number + 1, tls_anchors=(*anchors, anchor))
    authority.log.append(root, _identity_key(authority))
    return root


def switch(authority: Authority, which: Which, *, now: float, force: bool = False) -> TrustRoot:
    """Lets the announced authority issue, and the old one be accepted for the overlap only.

    Raises InputError where none was announced, and, unless forced, while a member that it would cut off does not know it.
    """
    _identity_key(authority)
    folder, root = authority.folder, authority.trust()
    if not (folder / f"{'identity-next.pem' if which == 'authority' else 'tls-next.crt'}").is_file():
        raise InputError(f"no {which} key is announced: run `fedge keys rotate {which}` first")
    if not force and (behind := _behind(authority, root, now=now)):
        raise InputError(
            f"{len(behind)} devices do not know the new key yet ({', '.join(behind[:5])}): wait, or give --force"
        )
    if which == "authority":
        return _switch_identity(authority, root, now=now)
    return _switch_tls(authority, root, now=now)


def _switch_identity(authority: Authority, root: TrustRoot, *, now: float) -> TrustRoot:
    folder = authority.folder
    fresh = load_private_key(folder / "identity-next.pem").public_key()
    if root.authority_key != fresh:
        old = _identity_key(authority)
        kept = (other for other in root.other_authority_keys if other.key != fresh and now <= other.until)
        others = (OtherKey(old.public_key(), now + OVERLAP_S), *kept)
        root = replace(root, number=root.number + 1, authority_key=fresh, other_authority_keys=others)
        authority.log.append(root, old)
    (folder / "identity-next.pem").replace(folder / "identity.pem")
    return root


def _switch_tls(authority: Authority, root: TrustRoot, *, now: float) -> TrustRoot:
    folder = authority.folder
    fresh = tls_der(read_file(folder / "tls-next.crt"))
    if root.tls_anchors[0].certificate != fresh:
        retiring = (TlsAnchor(a.certificate, min(a.until, now + OVERLAP_S)) for a in root.tls_anchors)
        others: Iterable[TlsAnchor] = (a for a in retiring if a.certificate != fresh and now <= a.until)
        root = replace(root, number=root.number + 1, tls_anchors=(TlsAnchor(fresh, FOREVER), *others))
        authority.log.append(root, _identity_key(authority))
    # The certificate goes last: while it is still there under its old name, the switch can be finished.
    if (folder / "tls-next.key").is_file():
        (folder / "tls-next.key").replace(folder / "tls.key")
    (folder / "tls-next.crt").replace(folder / "tls.crt")
    return root


def _identity_key(authority: Authority) -> Ed25519PrivateKey:
    if authority.is_presigned:
        raise InputError(
            "this change is signed with the enrollment key, which is on another machine: put the keys back for it, as "
            "docs/security.md says"
        )
    return load_private_key(authority.folder / "identity.pem")


def _behind(authority: Authority, root: TrustRoot, *, now: float) -> list[str]:
    """Members with valid certificates that have not asked for what follows the newest root, so may not hold it."""
    return [
        device.device_id
        for device, member in authority.devices()
        if device.revoked_at is None and now < device.expires_at and (member is None or member.trust_number < root.number)
    ]
