"""A number with its source and date, and the strict reading of TOML tables of such numbers.

Every price and every watt in the ledger comes from one of these. Never guesses: a figure without a source is refused.
"""

import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

from fedge.errors import InputError
from fedge.toml import parse_toml

_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, where it comes from and when it was true (YYYY, YYYY-MM or YYYY-MM-DD)."""

    value: float
    source: str
    date: str


def read_toml(text: str, what: str) -> dict[str, Any]:
    """The document; raises InputError where the text is not TOML."""
    return parse_toml(text, source=what)


def check_keys(table: object, keys: Collection[str], where: str) -> Mapping[str, Any]:
    """The table; raises InputError unless it has exactly these keys."""
    if not isinstance(table, dict):
        raise InputError(f"{where} must be a table with {', '.join(sorted(keys))}")
    for key in sorted(set(table) - set(keys)):
        raise InputError(f"{where}: unknown key {key!r}; known are {', '.join(sorted(keys))}")
    for key in sorted(set(keys) - set(table)):
        raise InputError(f"{where}: {key!r} is missing")
    return table


def read_text(table: Mapping[str, Any], key: str, where: str) -> str:
    """A non-empty string under ``key``."""
    if not isinstance(value := table[key], str) or not value.strip():
        raise InputError(f"{where}.{key} is {value!r}: it must be a text")
    return value


def read_date(table: Mapping[str, Any], where: str) -> str:
    """The date under "date", as YYYY, YYYY-MM or YYYY-MM-DD in a string."""
    if not _DATE.fullmatch(value := read_text(table, "date", where)):
        raise InputError(f"{where}.date is {value!r}: write YYYY-MM or YYYY-MM-DD")
    return value


def read_number(table: Mapping[str, Any], key: str, where: str) -> float:
    """A finite number of at least 0 under ``key``."""
    value = table[key]
    if not is_amount(value):
        raise InputError(f"{where}.{key} is {value!r}: it must be a number of at least 0")
    return float(value)


def is_amount(value: object) -> bool:
    """Whether ``value`` is a number of at least 0 that a float can hold: an integer of TOML may be larger than any float."""
    return type(value) in (int, float) and 0 <= cast(float, value) <= sys.float_info.max


def read_figure(table: object, where: str) -> Figure:
    """A table with exactly value, source and date."""
    checked = check_keys(table, ("value", "source", "date"), where)
    return Figure(read_number(checked, "value", where), read_text(checked, "source", where), read_date(checked, where))


def packaged_text(name: str) -> str:
    """A TOML file that ships with the package."""
    return resources.files("fedge.costs").joinpath("data", name).read_text(encoding="utf-8")
