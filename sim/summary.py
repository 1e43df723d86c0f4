"""`summary.json` and `rounds.csv`: what a run measured, in numbers, with the units in the names.

Everything but `seconds` is a function of the inputs and the seed. Nothing is rounded before it is written, except that
numbers are finite JSON numbers or null.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Round = dict[str, Any]

COLUMNS = (
    "round",
    "attempts",
    "cohort",
    "survivors",
    "fallback_rate",
    "accuracy.device",
    "accuracy.system",
    "accuracy.central",
    "accuracy_in_scope.device",
    "accuracy_in_scope.system",
    "accuracy_in_scope.central",
    "local_disagreement",
    "threshold",
    "certificate",
    "certified_risk",
    "usd_per_1k.marginal",
    "usd_per_1k.loaded",
    "usd_per_1k.all_cloud",
    "bytes.up",
    "bytes.down",
    "stream.queries",
    "stream.local",
    "stream.escalated",
    "stream.probes",
    "stream.local_disagreement",
    "weights_sha256",
)


def flatten(entry: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def rounds_csv(rounds: Sequence[Round]) -> str:
    """One line a round: the fixed columns, then dollars by kind, seconds by phase, privacy and policy as there are."""
    flat = [flatten(entry) for entry in rounds]
    extra = sorted({key for entry in flat for key in entry if key.startswith(("usd.", "seconds.", "privacy.", "policy."))})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*COLUMNS, *extra], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return stream.getvalue()


def write(out: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json` and `rounds.csv` into ``out``, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    _replace(out / "rounds.csv", rounds_csv(summary["rounds"]))


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
