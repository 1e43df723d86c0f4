"""`fedge keys`: the keys that devices trust, how they change, and a copy of them, on the server's machine: docs/keys.md."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.acting import acting
from cli.homes import ServerHomeOption, server_home

app = typer.Typer(no_args_is_help=True, help="The keys that devices trust: show, change, back up, keep on another machine.")


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
    from aggregator.fleet.key_rotation import announce, rotate_round_key
    from aggregator.fleet.published import publish

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
    from aggregator.fleet.key_rotation import Which
    from aggregator.fleet.key_rotation import switch as switch_to_announced
    from aggregator.fleet.published import publish

    which: Which = "authority" if key is AuthorityKey.AUTHORITY else "tls"
    with acting(home) as user, user.recorded("keys.switch", which, "", {"force": force}):
        server, now = user.operator.home, time.time()
        authority = Authority(server.authority)
        root = switch_to_announced(authority, which, now=now, force=force)
        publish(authority, server, server.settings().names, now=now)
    print(f"trust root {root.number} counts now: certificates are issued by the new {which} key")


@app.command()
def split(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder, for the signing machine alone.")],
    home: ServerHomeOption = None,
) -> None:
    """Move the enrollment key and the release keys out of the server's folder, for another machine: see docs/security.md."""
    from aggregator.signing.split import split_keys

    with acting(home) as user, user.recorded("keys.split", "", ""):
        moved = split_keys(user.operator.home, folder.expanduser().absolute(), now=time.time())
    print(f"{folder} holds what the server's folder no longer has: {', '.join(moved)}")
    print("Keep it on the signing machine, with a second copy in a safe place. Copy the server's folder to the server.")


@app.command()
def export(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The file to write.")], home: ServerHomeOption = None
) -> None:
    """On the server: write everything that waits for the signing machine into a file. It holds no secret."""
    from aggregator.signing.queue import SplitServer

    server = SplitServer(server_home(home))
    server.export().write(request.expanduser().absolute())
    waiting = server.awaits()
    print(f"{request} asks for: {', '.join(waiting) or 'certificates of devices for the next days'}")


@app.command()
def sign(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="What `fedge keys export` wrote.")],
    reply: Annotated[Path | None, typer.Argument(metavar="[REPLY]", help="The file to write; without it nothing is signed.")]
    = None,
    keys: Annotated[Path, typer.Option(help="The folder that `fedge keys split` made.")] = Path(),
    accept: Annotated[
        list[str] | None, typer.Option(metavar="DEVICE=FINGERPRINT", help="Enroll this device, whose key you compared.")
    ] = None,
    releases: Annotated[bool, typer.Option("--releases", help="Sign the release, certificate and channels.")] = False,
    new_base: Annotated[bool, typer.Option("--new-base", help="Also a release whose base is not the last one's.")] = False,
    revoke: Annotated[list[str] | None, typer.Option(metavar="DEVICE", help="Shut this device out for good.")] = None,
    days: Annotated[float, typer.Option(min=1, max=31, help="Sign devices' certificates ahead for so many days.")] = 9.0,
) -> None:
    """On the signing machine: show what a request asks for, verify it, and sign what you accept."""
    from aggregator.signing.documents import SigningRequest, read_document
    from aggregator.signing.machine import Approval, SigningMachine
    from fedge.errors import InputError

    machine = SigningMachine(keys.expanduser().absolute())
    asked = read_document(SigningRequest, request.expanduser().absolute())
    for line in machine.describe(asked):
        print(line)
    if reply is None:
        print("Nothing is signed. Name a REPLY, and what you agree to: --accept DEVICE=FINGERPRINT, --releases")
        return
    devices = dict(one.partition("=")[::2] for one in accept or [])
    if not all(devices.values()):
        raise InputError("--accept takes DEVICE=FINGERPRINT, the fingerprint as the device shows it")
    approval = Approval(devices=devices, releases=releases, new_base=new_base, revoked=tuple(revoke or ()))
    signed = machine.sign(asked, approval, now=time.time(), days=days)
    signed.write(reply.expanduser().absolute())
    print(f"{reply} is signed: {len(signed.certificates)} certificates, {'releases' if releases else 'no release'}")


@app.command("import")
def import_reply(
    reply: Annotated[Path, typer.Argument(metavar="REPLY", help="What `fedge keys sign` wrote.")],
    home: ServerHomeOption = None,
) -> None:
    """On the server: verify what the signing machine signed, and put it to use."""
    from aggregator.signing.documents import SigningReply, read_document
    from aggregator.signing.queue import SplitServer

    with acting(home) as user, user.recorded("keys.import", "", ""):
        server = SplitServer(user.operator.home)
        for line in server.take(read_document(SigningReply, reply.expanduser().absolute())):
            print(line)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder; it will hold private keys.")],
    home: ServerHomeOption = None,
) -> None:
    """Copy keys and records of devices into a new folder. To restore, copy it back: see docs/keys.md."""
    from aggregator.fleet.key_rotation import back_up

    names = back_up(server_home(home), folder.expanduser().absolute())
    print(f"{len(names)} files are in {folder}: keep it as secret as the keys in it")
