"""`record.json`: what a run leaves behind for the scenarios, so that none of them has to simulate again.

One entry a test query in columns of equal length, and one a round. Keys:

- ``format`` (2), ``workload``, ``seed``, ``devices``, ``queries_per_round`` (of one device), ``release``, ``threshold``
  (null: everything escalates), ``device_profile``, ``device_model`` ("text" or "pixels"), ``price_book``, ``version``,
  ``parameters`` (all of `fedge sim run`'s, files by name and SHA-256);
- ``labels``: names of the classes; ``oos_label``: the one that means "none of these", or null;
- ``asked``: how often the fleet was asked for each class in the whole run, by truth, in the order of ``labels``;
- ``queries``: ``confidence`` (of the last release's int8 model), ``device`` (its answer), ``central`` (central's), ``truth``
  (indices into ``labels``), ``local`` (1: the device answers at ``threshold``), ``owner`` (whose handwriting it carries, -1
  where devices have none) and ``alone`` (how many of the ``alone_devices`` get it right when each learned alone);
- ``rounds``: number, queries, who answered them, what was used by kind (``quantities``, in the ledger's units) and what that
  cost at the run's own prices, bytes.

Plain JSON: no pickle, nothing that is run on reading.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.costs import Kind
from fedge.costs.figures import is_amount
from fedge.errors import InputError

FORMAT = 2
RECORD = "record.json"
ROUND_KEYS = (
    "round",
    "usd",
    "quantities",
    "bytes",
    "threshold",
    "fallback_rate",
    "accuracy",
    "certificate",
    "probes",
    "stream",
)
STREAM_KEYS = ("queries", "local", "escalated", "probes")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueryColumns:
    """One row a test query; all arrays have one length n."""

    confidence: NDArray[np.float64]
    device: NDArray[np.int64]
    central: NDArray[np.int64]
    truth: NDArray[np.int64]
    local: NDArray[np.int64]
    owner: NDArray[np.int64]
    alone: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) != 1 or not len(self.truth):
            raise InputError(f"a record's columns must have one length, and not none: {lengths}")
        if not (np.isfinite(self.confidence).all() and (self.confidence >= 0).all() and (self.confidence <= 1).all()):
            raise InputError("a record's confidence must lie in 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunRecord:
    """The content of `record.json`."""

    workload: str
    seed: int
    devices: int
    queries_per_round: int
    release: str
    threshold: float | None
    device_profile: str
    device_model: str
    price_book: str
    version: str
    parameters: Mapping[str, Any]
    labels: tuple[str, ...]
    oos_label: str | None
    asked: NDArray[np.int64]
    alone_devices: int
    queries: QueryColumns
    rounds: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        classes = len(self.labels)
        columns = self.queries
        for name in ("device", "central", "truth"):
            column = getattr(columns, name)
            if column.min() < 0 or column.max() >= classes:
                raise InputError(f"a record's {name} names a class that is not among its {classes} labels")
        if len(self.asked) != classes or not self.rounds:
            raise InputError("a record counts what was asked by class, and has at least one round")
        if min(self.devices, self.queries_per_round) < 1:
            raise InputError("a record has at least one device with one query a round")
        for number, entry in enumerate(self.rounds, start=1):
            _check_round(number, entry)

    @property
    def oos_index(self) -> int | None:
        """The out-of-scope label's index."""
        return None if self.oos_label is None else self.labels.index(self.oos_label)

    def to_json(self) -> str:
        """The document described above."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        columns = {field.name: getattr(self.queries, field.name).tolist() for field in fields(self.queries)}
        changed = {
            "labels": list(self.labels),
            "asked": self.asked.tolist(),
            "queries": columns,
            "rounds": list(self.rounds),
        }
        return json.dumps({"format": FORMAT, **values, **changed}, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunRecord":
        """Reads what `to_json` wrote. Raises InputError for anything else."""
        try:
            document = json.loads(text)
            if document.pop("format") != FORMAT:
                raise InputError(f"record.json is of another format than {FORMAT}: play the run again")
            columns = document.pop("queries")
            document["queries"] = QueryColumns(
                confidence=np.asarray(columns.pop("confidence"), dtype=np.float64),
                **{name: np.asarray(values, dtype=np.int64) for name, values in columns.items()},
            )
            document["asked"] = np.asarray(document["asked"], dtype=np.int64)
            document["labels"], document["rounds"] = tuple(document["labels"]), tuple(document["rounds"])
            return cls(**document)
        except InputError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            raise InputError(f"record.json cannot be read ({error}): play the run again") from None


def _check_round(number: int, entry: Mapping[str, Any]) -> None:
    """Raises InputError where a scenario could not count on a round's numbers."""
    missing = [key for key in ROUND_KEYS if key not in entry]
    if missing:
        raise InputError(f"round {number} of record.json lacks {missing[0]!r}: play the run again")
    numbers = {f"quantities.{Kind(kind)}": value for kind, value in entry["quantities"].items()}
    numbers |= {f"stream.{key}": entry["stream"][key] for key in STREAM_KEYS}
    numbers |= {f"accuracy.{who}": entry["accuracy"][who] for who in ("device", "system", "central")}
    numbers |= {f"probes.{key}": entry["probes"][key] for key in ("local", "disagreed")}
    numbers["fallback_rate"] = entry["fallback_rate"]
    wrong = [name for name, value in numbers.items() if not is_amount(value)]
    if wrong or entry["stream"]["queries"] < 1:
        name = wrong[0] if wrong else "stream.queries"
        raise InputError(f"round {number} of record.json has no usable {name}: play the run again")


def record_rounds(rounds: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """What the scenarios need of the summary's rounds."""
    return tuple({key: entry[key] for key in ROUND_KEYS} for entry in rounds)


def write_record(out: Path, record: RunRecord) -> None:
    """Write `record.json` into ``out``, whole or not at all."""
    temporary = out / f".{RECORD}.part"
    temporary.write_text(record.to_json(), encoding="utf-8")
    temporary.replace(out / RECORD)


def read_record(folder: Path) -> RunRecord | None:
    """The record in a run's folder; None where it has none. Raises InputError for one that cannot be read."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return RunRecord.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
