"""The clock: judged by the server's where that can be asked, else by the certificates that were issued to this device.

A clock that stands wrong shows as certificates "not yet valid" or "expired": this says so in as many words. Boards without a
battery-backed clock start in the past until they reach a time server.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_client.doctor.finding import Finding, fail, ok, warn

SKEW_S = 300.0
"""What certificates forgive: they begin that much before they were issued."""
NOTABLE_S = 30.0
SET_IT = "set the clock: sudo timedatectl set-ntp true, and let it reach a time server (UDP port 123)"


@dataclass(frozen=True, slots=True)
class Validity:
    """The time in which a certificate holds, UNIX seconds; ``what`` names it."""

    what: str
    begins: float
    ends: float


def clock(now: float, *, server_time: float | None, validities: Sequence[Validity], run: Path = Path("/run")) -> Finding:
    """``server_time``: the server's clock just now, where it said. ``validities``: certificates, the servers' among them."""
    if server_time is not None:
        return _by_server(now, server_time)
    for validity in validities:
        if now < validity.begins:
            says = f"{moment(now)} is before {validity.what} begins ({moment(validity.begins)}): the clock is behind"
            return fail("clock", says, SET_IT)
    over = [validity.ends for validity in validities if now > validity.ends]
    # One that ended may simply be old. All of them at once, the servers' included, points to the clock.
    if len(over) == len(validities) > 1:
        says = f"{moment(now)} is after every certificate's end (the last {moment(max(over))}): perhaps the clock is ahead"
        return warn("clock", says, SET_IT)
    if not validities and (run / "systemd").is_dir() and not (run / "systemd/timesync/synchronized").exists():
        return warn("clock", f"{moment(now)}, not known to be set by a time server", SET_IT)
    return ok("clock", moment(now))


def _by_server(now: float, server_time: float) -> Finding:
    off = now - server_time
    says = f"{moment(now)}, {_span(abs(off))} {'ahead of' if off > 0 else 'behind'} the server's"
    if abs(off) > SKEW_S:
        return fail("clock", says, SET_IT)
    if abs(off) > NOTABLE_S:
        return warn("clock", says, SET_IT)
    return ok("clock", f"{moment(now)}, within {_span(NOTABLE_S)} of the server's")


def moment(seconds: float) -> str:
    """A time in UTC, for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
