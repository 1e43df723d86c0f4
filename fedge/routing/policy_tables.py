"""Strict reading of a policy's tables: what is unknown or unusable is one InputError that names the key. Decides nothing."""

import sys
from collections.abc import Collection, Mapping
from typing import Any

from fedge.errors import InputError

MOST = 1_000_000_000


def require_known(table: Mapping[str, Any], keys: Collection[str], prefix: str = "") -> None:
    """Raises InputError for a key that is not one of ``keys``; ``prefix`` says where the table stands."""
    for key in sorted(set(table) - set(keys)):
        raise InputError(f"policy: unknown key {prefix}{key!s}; known are {', '.join(sorted(keys))}")


def table_of(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The table ``[name]``, empty where there is none."""
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"policy: {name} is {table!r}, write a table [{name}]")
    return table


def tables_of(document: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """The tables ``[name.NAME]`` by NAME."""
    tables = document.get(name, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise InputError(f"policy: {name} holds tables, as in [{name}.NAME]")
    return tables


def amount(table: Mapping[str, Any], key: str, where: str, *, what: str, at_most: float = sys.float_info.max) -> float:
    """A number of at least 0; ``what`` says in words what it should have been."""
    value = table[key]
    if type(value) not in (int, float) or not 0 <= value <= at_most:  # an integer may exceed any float
        raise InputError(f"policy: {where} is {value!r}, use {what}")
    return float(value)


def count(table: Mapping[str, Any], key: str, where: str) -> int | None:
    """A whole number of at least 1, None where the key is missing."""
    if key not in table:
        return None
    value = table[key]
    if type(value) is not int or not 1 <= value <= MOST:
        raise InputError(f"policy: {where} is {value!r}, use a whole number from 1 to {MOST}")
    return value


def names(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A list of names, empty where the key is missing."""
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise InputError(f"policy: {where} is {value!r}, use a list of labels")
    return tuple(value)
