"""How an agent stands, for the operator of its fleet. Only what `fedge.presence` has room for, gathered in one place."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from edge_client.power.supply import supply
from fedge.presence import MAX_QUEUE, Presence

if TYPE_CHECKING:
    from edge_client.process import AgentProcess


def presence_of(process: "AgentProcess") -> Presence:
    """One look: a few numbers from memory and from the store, and a few files of the kernel's."""
    active, health = process.releases.active, process.store.health
    release = active.loaded.release_id if active else ""
    standing = health.get(release) if release else None
    power = process.meter.power
    return Presence(
        release=release,
        on_trial=standing is not None and standing.state == "watched",
        given_up=health.newest_given_up() or "",
        supply=supply(process.settings.sysfs),
        sensor=(power.source or "") if power is not None else "",
        profile=process.settings.profile,
        queue=min(len(process.store.outbox), MAX_QUEUE),
        fedge=fedge_version(),
    )


@cache
def fedge_version() -> str:
    """Of the installed package; empty where fedge runs without being installed."""
    try:
        return version("fedge")
    except PackageNotFoundError:
        return ""
