"""A recorded round for people: its sessions, who left, how long its phases took, what it cost, and what came out."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from cli.console import PlainConsole

_ANSWERED = {"queries": "queries", "local": "on the device", "degraded": "in central's place", "probes": "probes"}
_SHARES = ("fallback_rate", "certified_risk")


def show_round(document: Mapping[str, Any]) -> None:
    """Print a round's document (`aggregator.store.serializers.round_document`)."""
    console = PlainConsole()
    release = (document["release"] or "-")[:12]
    console.print(
        f"Round {document['round']}: {document['state']}, release {release}, finished {date(document['finished'])}"
    )
    session = ("purpose", "attempt", "outcome", "cohort", "survivors", "reason")
    _table(console, ("session", *session[1:]), ([str(entry[key]) for key in session] for entry in document["attempts"]))
    left = (
        [one["device"], f"{one['purpose']} {one['attempt']}", one["stage"], one["reason"]] for one in document["dropouts"]
    )
    _table(console, ("device", "session", "left at", "why"), left)
    _table(console, ("phase", "seconds"), ([words(name), f"{spent:.2f}"] for name, spent in document["seconds"].items()))
    _costs(console, document["usd"])
    metrics = dict(document["metrics"])
    notes, usage = metrics.pop("notes", None) or [], metrics.pop("usage", None)
    if usage:
        _usage(console, usage)
    _table(console, ("figure", ""), ([words(key), _said(key, value)] for key, value in metrics.items() if _is_told(value)))
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True)


def date(at: float | None) -> str:
    """UNIX seconds as a minute in UTC."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def words(key: str) -> str:
    """A key of the record as it is read."""
    return key.replace("_", " ")


def _table(console: PlainConsole, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """An empty line and the rows, or nothing where there are none."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    if table.row_count:
        console.print()
        console.print(table)


def _left(one: Mapping[str, Any]) -> list[str]:
    return [one["device"], f"{one['purpose']} {one['attempt']}", one["stage"], one["reason"]]


def _costs(console: PlainConsole, usd: Mapping[str, float]) -> None:
    paid = sorted(usd.items(), key=lambda one: -one[1])
    rows = [[words(kind), _usd(amount)] for kind, amount in paid]
    _table(console, ("cost", "USD"), [*rows, ["together", _usd(sum(usd.values()))]] if rows else [])


def _usd(amount: float) -> str:
    return "under 0.000001" if 0 < amount < 1e-6 else f"{amount:.6f}"


def _usage(console: PlainConsole, usage: Mapping[str, int]) -> None:
    """What the devices' secure sum says of them since the sum before."""
    answered = ", ".join(f"{usage[name]} {said}" for name, said in _ANSWERED.items() if name in usage)
    used = {name.removesuffix("_mj"): count / 1000 for name, count in usage.items() if name.endswith("_mj")}
    used |= {name.removesuffix("_j"): float(count) for name, count in usage.items() if name.endswith("_j")}
    console.print(f"\nDevices answered: {answered}", soft_wrap=True)
    console.print("Electricity, J: " + ", ".join(f"{name} {joules:.3g}" for name, joules in used.items()), soft_wrap=True)


def _is_told(value: object) -> bool:
    return value is not None and value not in ("", [], {})


def _said(key: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{words(name)} {_said(name, one)}" for name, one in value.items())
    if isinstance(value, float):
        return f"{value:.1%}" if key in _SHARES else f"{value:.4g}"
    return str(value)
