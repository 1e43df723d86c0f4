"""Strict reading of a feature specification's fields. Never guesses a default for what is missing."""

from collections.abc import Mapping, Set

from fedge.errors import InputError


def checked_keys(mapping: Mapping[str, object], wanted: Set[str]) -> None:
    """Raises InputError unless ``mapping`` has exactly the keys ``wanted``."""
    unknown, missing = sorted(set(mapping) - wanted), sorted(wanted - set(mapping))
    if unknown or missing:
        problems = [f"unknown {name!r}" for name in unknown] + [f"missing {name!r}" for name in missing]
        raise InputError(f"feature specification: {', '.join(problems)} (it has {', '.join(sorted(wanted))})")


def whole_number(name: str, value: object, *, low: int, high: int) -> int:
    """``value`` as an int within [low, high]. Raises InputError otherwise (a bool or a float is no whole number here)."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"feature specification: {name} is {value!r}, it must be a whole number from {low} to {high}")
    return value
