"""Recorded answers of a weak and a strong model: a csv file (UTF-8, plain or gzip), one prompt a line.

Columns `prompt`, `weak`, `strong` (0/1 or any score, higher is better); optional `weak_cost` and `strong_cost` (USD), `user`
and `domain` (who trains on it), `contaminated` (1: known to be in a model's training data; left out). Other columns are
not used. Prompts that differ in case or spaces only stay together when the file is divided. Every fault ends in one line
that names the place and the remedy.
"""

import csv
import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.workloads.data import read_decompressed
from fedge.errors import InputError
from fedge.features import normalized_text
from fedge.randomness import generator
from fedge.routing.learned import Floats

FEWEST = 50
_NEEDED = ("prompt", "weak", "strong")
_OPTIONAL = ("weak_cost", "strong_cost", "domain", "user", "contaminated")
_ANONYMOUS_DEVICES = 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """``weak``, ``strong`` float64 [n]; costs float64 [n] or None; ``owner``: the user or domain of each prompt, or None."""

    prompts: list[str]
    weak: Floats
    strong: Floats
    weak_cost: Floats | None
    strong_cost: Floats | None
    owner: list[str] | None
    owner_column: str | None
    contaminated: int
    unused: tuple[str, ...]
    sha256: str

    @property
    def binary(self) -> bool:
        """Whether all scores are 0 or 1, so that quality is an accuracy and a point is 0.01."""
        return bool(np.isin(self.weak, (0, 1)).all() and np.isin(self.strong, (0, 1)).all())


def load(path: Path) -> Recorded:
    """What the file holds. Raises InputError for a file on which no router can be judged."""
    content = read_decompressed(path)
    recorded = parse(content, name=str(path))
    _check(recorded, name=str(path))
    return recorded


def parse(content: bytes, *, name: str) -> Recorded:
    """The rows of a file's content. Raises InputError that names the line of the first fault."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}, line {line}: not UTF-8: save the file as UTF-8") from error
    if "\0" in text:
        raise InputError(f"{name}, line {text.count(chr(10), 0, text.index(chr(0))) + 1}: a NUL byte: this is no text file")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, dict[str, str]]] = []
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        _check_header(header, name=name)
        line = reader.line_num + 1
        for fields in reader:
            if fields:
                where = f"{name}, line {line}"
                if len(fields) != len(header):
                    raise InputError(
                        f'{where}: {len(fields)} fields instead of {len(header)}: put a prompt that has commas in "quotes"'
                    )
                rows.append((where, dict(zip(header, fields, strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}: check the quotes and commas there") from error
    kept = [(where, row) for where, row in rows if row.get("contaminated", "0").strip() in ("", "0")]
    owner_column = next((column for column in ("user", "domain") if column in header), None)
    for where, row in kept:
        normalized_text(row["prompt"])
        if not row["prompt"].strip():
            raise InputError(f"{where}: the prompt is empty: fill it in or delete the line")
    return Recorded(
        prompts=[row["prompt"] for _, row in kept],
        weak=_numbers(kept, "weak"),
        strong=_numbers(kept, "strong"),
        weak_cost=_numbers(kept, "weak_cost") if "weak_cost" in header else None,
        strong_cost=_numbers(kept, "strong_cost") if "strong_cost" in header else None,
        owner=[row[owner_column].strip() for _, row in kept] if owner_column else None,
        owner_column=owner_column,
        contaminated=len(rows) - len(kept),
        unused=tuple(column for column in header if column not in (*_NEEDED, *_OPTIONAL)),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def halves(recorded: Recorded, seed: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers for training and for measuring, about half each; equal prompts stay together."""
    first, second = _divided(recorded, np.arange(len(recorded.prompts)), 2, generator(seed, "halves"))
    return first, second


def folds(recorded: Recorded, rows: NDArray[np.int64], count: int, seed: bytes) -> tuple[NDArray[np.int64], ...]:
    """``rows`` in ``count`` parts; equal prompts stay together."""
    return _divided(recorded, rows, count, generator(seed, "folds"))


def devices(recorded: Recorded, rows: NDArray[np.int64], seed: bytes) -> tuple[list[NDArray[np.int64]], str]:
    """Which rows each device trains on, and by what they are divided: users, else domains, else at random."""
    if recorded.owner is not None:
        owner = np.array([recorded.owner[row] for row in rows.tolist()])
        parts = [rows[owner == name] for name in np.unique(owner)]
        if len(parts) > 1:
            return parts, str(recorded.owner_column)
    shuffled = generator(seed, "devices").permutation(rows)
    count = min(_ANONYMOUS_DEVICES, len(rows) // 2)
    return [np.sort(part) for part in np.array_split(shuffled, count)], "random"


def _divided(
    recorded: Recorded, rows: NDArray[np.int64], count: int, draw: np.random.Generator
) -> tuple[NDArray[np.int64], ...]:
    texts = [normalized_text(recorded.prompts[row]) for row in rows.tolist()]
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    part = draw.permutation(len(distinct)) % count
    of_row = part[[distinct[text] for text in texts]]
    return tuple(rows[of_row == number] for number in range(count))


def _check_header(header: list[str], *, name: str) -> None:
    if not any(header):
        raise InputError(f"{name} is empty: its first line must name the columns prompt, weak and strong")
    for column in _NEEDED:
        if column not in header:
            found = ", ".join(map(repr, header))
            raise InputError(
                f"{name} has no column {column!r} (found {found}): name prompt, weak and strong in its first line"
            )
    for column in (*_NEEDED, *_OPTIONAL):
        if header.count(column) > 1:
            raise InputError(f"{name} has the column {column!r} twice: keep one")


def _numbers(rows: list[tuple[str, dict[str, str]]], column: str) -> Floats:
    values = [_number(where, row, column) for where, row in rows]
    return np.array(values, dtype=np.float64)


def _number(where: str, row: Mapping[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        raise InputError(f"{where}: {column} is {row[column][:40]!r}, which is no number: give 0, 1 or a score") from None
    if not math.isfinite(value) or abs(value) > 1e9:
        raise InputError(f"{where}: {column} is {row[column][:40]!r}: give a finite number below a billion")
    if column.endswith("cost") and value < 0:
        raise InputError(f"{where}: {column} is {row[column][:40]!r}: a cost is not negative")
    return value


def _check(recorded: Recorded, *, name: str) -> None:
    prompts = len({normalized_text(prompt) for prompt in recorded.prompts})
    if prompts < FEWEST:
        raise InputError(f"{name} has {prompts} different prompts: at least {FEWEST} are needed to train and judge a router")
    for column in ("weak", "strong"):
        values = getattr(recorded, column)
        if (values == values[0]).all():
            raise InputError(
                f"{name}: {column} is {values[0]:g} in every row: one class only, there is nothing to tell apart"
            )
    if (recorded.weak == recorded.strong).all():
        raise InputError(f"{name}: weak equals strong in every row: asking the strong model gains nothing, nothing to route")
    if recorded.strong.mean() <= recorded.weak.mean():
        raise InputError(
            f"{name}: strong ({recorded.strong.mean():.4g} on average) is not better than weak "
            f"({recorded.weak.mean():.4g}): are the columns swapped?"
        )
