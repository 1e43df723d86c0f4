"""`fedge keys`: the keys that devices trust, how they change, and a copy of them, on the server's machine: docs/keys.md."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.acting import acting
from cli.homes import ServerHomeOption, server_home

app = typer.Typer(no_args_is_help=True, help="The keys that devices trust: shown, changed, backed up.")


class Key(StrEnum):
    """Which key to change."""

    ROUND = "round"
    AUTHORITY = "authority"
    TLS = "tls"


class AuthorityKey(StrEnum):
    """Which key changes in two steps."""

    AUTHORITY = "authority"
    TLS = "tls"


@app.callback()
def group() -> None:
    """Keep `fedge keys` a group of commands."""


@app.command("list")
def list_keys(
    home: ServerHomeOption = None, json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False
) -> None:
    """The trust root that counts: its number, each key's fingerprint, and how many devices hold it already."""
    from hashlib import sha256

    from aggregator.fleet.authority import Authority

    now = time.time()
    authority = Authority(server_home(home).authority)
    root = authority.trust()
    members = [
        member for device, member in authority.devices() if device.revoked_at is None and now < device.expires_at and member
    ]
    prints = {
        name: sha256(key.public_bytes_raw()).hexdigest()
        for name, key in (("authority", root.authority_key), ("release", root.release_key), ("round", root.round_key))
    }
    entry = {
        "number": root.number,
        "name": root.ca_name,
        **prints,
        "other_authorities": [
            {"key": sha256(other.key.public_bytes_raw()).hexdigest(), "until": other.until}
            for other in root.other_authority_keys
        ],
        "tls": [
            {"certificate": sha256(anchor.certificate).hexdigest(), "until": anchor.until} for anchor in root.tls_anchors
        ],
        "devices": len(members),
        "devices_up_to_date": sum(member.trust_number >= root.number for member in members),
    }
    if json_output:
        print(json.dumps(entry))
        return
    print(f"trust root {root.number} of {root.ca_name}, held by {entry['devices_up_to_date']} of {len(members)} devices")
    for name, fingerprint in prints.items():
        print(f"{name:<10} {fingerprint}")
    for other in root.other_authority_keys:
        print(f"authority+ {sha256(other.key.public_bytes_raw()).hexdigest()}")
    for anchor in root.tls_anchors:
        print(f"tls        {sha256(anchor.certificate).hexdigest()}")


@app.command()
def rotate(key: Annotated[Key, typer.Argument(help="Which key.")], home: ServerHomeOption = None) -> None:
    """A new round key, or the announcement of a new authority or TLS authority, which `switch` puts to use later."""
    from aggregator.fleet.authority import Authority
    from aggregator.fleet.published import publish
    from aggregator.fleet.rotation import announce, rotate_round_key

    with acting(home) as user, user.recorded("keys.rotate", key.value, ""):
        server, now = user.operator.home, time.time()
        authority = Authority(server.authority)
        if key is Key.ROUND:
            root = rotate_round_key(authority, server)
            then = "start the rounds' process again"
        else:
            root = announce(authority, "authority" if key is Key.AUTHORITY else "tls", now=now)
            then = f"when `fedge keys list` shows that the devices hold it, run `fedge keys switch {key}`"
        publish(authority, server, server.settings().names, now=now)
    print(f"trust root {root.number} counts now: {then}")


@app.command()
def switch(
    key: Annotated[AuthorityKey, typer.Argument(help="Which announced authority.")],
    home: ServerHomeOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where that cuts devices off; they have to enroll again.")
    ] = False,
) -> None:
    """Let the announced authority issue certificates; the old one is accepted for two more days."""
    from aggregator.fleet.authority import Authority
    from aggregator.fleet.published import publish
    from aggregator.fleet.rotation import Which
    from aggregator.fleet.rotation import switch as switch_to_announced

    which: Which = "authority" if key is AuthorityKey.AUTHORITY else "tls"
    with acting(home) as user, user.recorded("keys.switch", which, "", {"force": force}):
        server, now = user.operator.home, time.time()
        authority = Authority(server.authority)
        root = switch_to_announced(authority, which, now=now, force=force)
        publish(authority, server, server.settings().names, now=now)
    print(f"trust root {root.number} counts now: certificates are issued by the new {which} key")


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder; it will hold private keys.")],
    home: ServerHomeOption = None,
) -> None:
    """Copy keys and records of devices into a new folder. To restore, copy it back: see docs/keys.md."""
    from aggregator.fleet.backup import back_up

    names = back_up(server_home(home), folder.expanduser().absolute())
    print(f"{len(names)} files are in {folder}: keep it as secret as the keys in it")
