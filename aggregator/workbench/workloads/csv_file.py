"""csv: anyone's file with the columns text, label and, if there is one, user (UTF-8, plain or gzip).

A third each for server, devices and test, every label in each; equal texts stay together, so that no one trains on a
text that measures. A label named "oos" is the out-of-scope one. With a user column, a user's queries in the devices'
third belong to that user's device. Every fault of the file ends in one line that names the place and the remedy.
"""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregator.workbench.workloads.base import Split, Workload
from aggregator.workbench.workloads.data import read_decompressed
from aggregator.workbench.workloads.partition import stratified_parts
from fedge.errors import InputError
from fedge.features import TextFeatures, normalized_text
from fedge.randomness import generator

OOS = "oos"
_COLUMNS = ("text", "label", "user")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file; ``user`` is empty where there is no such column."""

    text: str
    label: str
    user: str


def load_csv(path: Path, *, seed: bytes, devices: int | None) -> Workload:
    """The workload that the file holds. Raises InputError for a file that cannot be used by a fleet of ``devices``."""
    content = read_decompressed(path)
    rows = read_rows(content, name=str(path))
    labels = _checked_labels(rows, name=str(path))
    number = {label: index for index, label in enumerate(labels)}
    users = {user: index for index, user in enumerate(sorted({row.user for row in rows}))}
    has_users = set(users) != {""}

    # Texts that differ in case or spaces only are one text, with the label of its first line.
    texts = [normalized_text(row.text) for row in rows]
    text_number = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    first_label = dict(reversed([(text, number[row.label]) for text, row in zip(texts, rows, strict=True)]))
    row_text = np.array([text_number[text] for text in texts], dtype=np.int64)
    text_label = np.array([first_label[text] for text in text_number], dtype=np.int64)
    row_label = np.array([number[row.label] for row in rows], dtype=np.int64)
    row_group = np.array([users[row.user] for row in rows], dtype=np.int64) if has_users else row_label
    oos = number.get(OOS)
    row_group = np.where(row_label == oos, -1, row_group) if oos is not None else row_group

    draw = generator(seed, "csv", "parts")
    parts = [np.flatnonzero(np.isin(row_text, part)) for part in stratified_parts(text_label, (1 / 3, 1 / 3, 1 / 3), draw)]
    server, pool, test = (
        Split([rows[i].text for i in part.tolist()], row_label[part], row_group[part].astype(np.int64)) for part in parts
    )
    in_scope = int((pool.labels != oos).sum()) if oos is not None else len(pool)
    if devices is not None and in_scope < devices:
        raise InputError(
            f"{path} leaves {in_scope} queries in scope for {devices} devices (a third of its {len(rows)} rows): "
            f"use at most {in_scope} devices or a larger file"
        )
    return Workload(
        name="csv",
        labels=labels,
        oos_label=OOS if oos is not None else None,
        features=TextFeatures(),
        topics={label: label for label in labels if label != OOS},
        server=server,
        devices=pool,
        test=test,
        test_device=np.full(len(test), -1, dtype=np.int64),
        data_sha256=hashlib.sha256(content).hexdigest(),
        note="a device's queries come again with small random changes once it has asked them all",
        oos_share=1.0 - in_scope / len(pool),
        has_users=has_users,
    )


def read_rows(content: bytes, *, name: str) -> list[Row]:
    """The rows of a csv file's content. Raises InputError that names the line of the first fault."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}, line {line}: not UTF-8 (byte 0x{content[error.start]:02x}): save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name}, line {line}: a NUL byte: this is no text file, or it is damaged")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        _check_header(header, name=name)
        rows = [_row(fields, header, where=f"{name}, line {reader.line_num}") for fields in reader if fields]
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}: check the quotes and commas there") from error
    if not rows:
        raise InputError(f"{name} has no rows below its header: add some `text,label` lines")
    return rows


def _check_header(header: list[str], *, name: str) -> None:
    if not any(header):
        raise InputError(f"{name} is empty: its first line must be `text,label` or `text,label,user`")
    for column in _COLUMNS[:2]:
        if column not in header:
            found = ", ".join(repr(found) for found in header)
            raise InputError(f"{name} has no column {column!r} (found {found}): its first line must be `text,label[,user]`")
    for column in header:
        if column not in _COLUMNS:
            raise InputError(f"{name} has a column {column!r} that fedge does not know: keep text, label and (if any) user")
        if header.count(column) > 1:
            raise InputError(f"{name} has the column {column!r} twice: keep one")


def _row(fields: list[str], header: list[str], *, where: str) -> Row:
    if len(fields) != len(header):
        raise InputError(f'{where}: {len(fields)} fields instead of {len(header)}: put a text that has commas in "quotes"')
    values = dict(zip(header, (field.strip() for field in fields), strict=True))
    for column in header:
        if not values[column]:
            raise InputError(f"{where}: the {column} is empty: fill it in or delete the line")
    return Row(text=values["text"], label=values["label"], user=values.get("user", ""))


def _checked_labels(rows: list[Row], *, name: str) -> tuple[str, ...]:
    """The labels, sorted, out of scope last. Each part needs its own text of every label."""
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(normalized_text(row.text), row.label)
    texts: dict[str, int] = {row.label: 0 for row in rows}
    for label in first.values():
        texts[label] += 1
    for label, count in sorted(texts.items()):
        if count < 3:
            found = f"{name}: label {label!r} has {count} different text{'' if count == 1 else 's'}"
            raise InputError(f"{found}, but each third needs one: add lines or merge the label with another")
    in_scope = sorted(set(texts) - {OOS})
    if len(in_scope) < 2:
        raise InputError(
            f"{name} has one label only ({', '.join(map(repr, in_scope)) or repr(OOS)}): there is nothing to tell apart"
        )
    return (*in_scope, OOS) if OOS in texts else tuple(in_scope)
