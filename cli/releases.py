"""`fedge releases`: what the fleet runs, and the operator's word on it. For the machine that holds the server's folder.

A decision is taken in the registry and signed for the devices at once; a running server need not be told. The rounds process
goes by it from its next round on.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.homes import ServerHomeOption, server_home

if TYPE_CHECKING:
    from aggregator.fleet.offering import OfferedRegistry
    from aggregator.fleet.registry import ReleaseRegistry
    from aggregator.fleet.tuf_repository import TufRepository
    from aggregator.settings import ServerHome

app = typer.Typer(no_args_is_help=True, help="What the fleet runs: list, promote, roll back.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded with the release.")]
ReleaseArgument = Annotated[str, typer.Argument(metavar="RELEASE", help="A release's id, or the beginning of one.")]


@app.callback()
def group() -> None:
    """Keep `fedge releases` a group of commands."""


@app.command("list")
def list_releases(home: ServerHomeOption = None, json_output: JsonOption = False) -> None:
    """One line a release, in the order of publication: version, state, channel, certificate, and why it is in that state."""
    from rich.console import Console
    from rich.table import Table

    opened = server_home(home)
    entries = _entries(_registry(opened))
    if json_output:
        print(json.dumps(entries))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("release", "version", "state", "channel", "certificate", "since"):
        table.add_column(name, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for entry in entries:
        channel = entry["channel"] or "-"
        table.add_row(
            entry["release"][:12],
            str(entry["version"]),
            entry["state"],
            f"{channel} {entry['share']:.0%}" if entry["share"] is not None else channel,
            entry["certificate"] or "-",
            time.strftime("%m-%d %H:%M", time.gmtime(entry["since"])),
            entry["reason"],
        )
    console = Console(highlight=False)
    console.print(table)
    for role, at in sorted(_tuf(opened).expires().items(), key=lambda item: item[1]):
        left_days = (at - time.time()) / 86400
        if left_days < 0 or (role == "root" and left_days < 60):
            state = "has expired: devices take nothing" if left_days < 0 else f"expires in {left_days:.0f} days"
            console.print(f"TUF's {role} {state}; see docs/tuf.md")


@app.command()
def promote(
    release: ReleaseArgument, home: ServerHomeOption = None, reason: ReasonOption = "promoted by an operator"
) -> None:
    """Make a candidate, on the canary or not, what all devices run."""
    offered, registry = _offered(server_home(home))
    release_id = _find(registry, release)
    offered.promote(release_id, at=time.time(), reason=reason)
    print(f"{release_id[:12]} is active: devices take it at their next look")


@app.command()
def rollback(home: ServerHomeOption = None, reason: ReasonOption = "rolled back by an operator") -> None:
    """Take back the release on the canary; without one, the active release, for the one before it."""
    offered, registry = _offered(server_home(home))
    canary = registry.canary()
    if canary is not None:
        offered.reject(canary.release_id, at=time.time(), reason=reason)
        print(f"{canary.release_id[:12]} is rejected: its devices go back to {(registry.active() or 'none')[:12]}")
        return
    active = registry.active()
    back = offered.rollback(at=time.time(), reason=reason)
    print(f"{(active or '')[:12]} is rolled back: devices go back to {back[:12]} at their next look")


@app.command("rotate-root")
def rotate_root(
    home: ServerHomeOption = None,
    root_keys: Annotated[
        Path | None, typer.Option(help="Folder of the present root keys; default: tuf/root in the server's folder.")
    ] = None,
    new_root_keys: Annotated[
        Path | None, typer.Option(help="New folder for new root keys, which take over; without it the present ones stay.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=16, help="How many new root keys.")] = 1,
    threshold: Annotated[int | None, typer.Option(min=1, help="How many root keys must sign from now on.")] = None,
    online: Annotated[bool, typer.Option("--online", help="New keys for release, snapshot and timestamp as well.")] = False,
) -> None:
    """Sign a new TUF root: renews its expiry, replaces keys. Devices follow it by themselves."""
    from aggregator.fleet.tuf_keys import ONLINE

    version = _tuf(server_home(home)).rotate(
        root_keys=root_keys,
        new_root_keys=new_root_keys,
        count=count,
        threshold=threshold,
        online=ONLINE if online else (),
    )
    print(f"root {version} is signed and offered")
    if new_root_keys is not None:
        print(f"take {new_root_keys} off this machine, and keep a copy; the keys before it have no say any more")


@app.command()
def restored(home: ServerHomeOption = None) -> None:
    """After the server's folder was restored from a backup: sign versions above all that devices may have seen."""
    opened = server_home(home)
    offered, _ = _offered(opened)
    offered.catch_up()
    _tuf(opened).advance()
    print("signed anew, with versions moved ahead: devices go on at their next look")


def _certificate(registry: "ReleaseRegistry", release_id: str) -> str | None:
    """What the release's certificate says: certified, empirical or none; or that it has expired. None where it has none."""
    from fedge.routing import CertificateStatement

    document = registry.certificate(release_id)
    if document is None:
        return None
    statement = CertificateStatement.from_bytes(document.statement)
    return "expired" if time.time() >= statement.expires_at else statement.state


def _entries(registry: "ReleaseRegistry") -> list[dict[str, Any]]:
    canary, last = registry.canary(), {move.release_id: move for move in registry.history()}
    entries = []
    for release in registry.releases():
        on_canary = canary is not None and canary.release_id == release.release_id
        move = last[release.release_id]
        entries.append(
            {
                "release": release.release_id,
                "version": release.version,
                "state": release.state,
                "channel": "stable" if release.state == "active" else "canary" if on_canary else None,
                "share": canary.share if canary is not None and on_canary else None,
                "certificate": _certificate(registry, release.release_id),
                "since": move.at,
                "reason": move.reason,
            }
        )
    return entries


def _registry(home: "ServerHome") -> "ReleaseRegistry":
    from aggregator.fleet.registry import ReleaseRegistry
    from fedge.errors import InputError
    from fedge.identity import TrustRoot

    if not home.trust.is_file() or not home.registry.is_dir():
        raise InputError(f"{home.folder} holds no releases: run fedge server init, or give --home")
    return ReleaseRegistry(home.registry, TrustRoot.from_bytes(home.trust.read_bytes()).release_key)


def _tuf(home: "ServerHome") -> "TufRepository":
    from aggregator.services import tuf_repository

    return tuf_repository(home, home.settings())


def _offered(home: "ServerHome") -> tuple["OfferedRegistry", "ReleaseRegistry"]:
    from aggregator.fleet.offering import OfferedRegistry

    registry = _registry(home)
    return OfferedRegistry(registry, _tuf(home)), registry


def _find(registry: "ReleaseRegistry", wanted: str) -> str:
    from fedge.errors import InputError

    found = [release.release_id for release in registry.releases() if release.release_id.startswith(wanted)]
    if len(found) != 1 or len(wanted) < 4:
        several = "several releases begin with that" if len(found) > 1 else "no release begins with that"
        raise InputError(f"release {wanted[:64]!r}: {several if len(wanted) >= 4 else 'give at least 4 digits of its id'}")
    return found[0]
