"""Settings as the text of a TOML file: a commented file from the typed models, and single values changed in place.

A value is changed on its own line, so that what a person wrote around it stays as it is.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap

from fedge.errors import InputError
from fedge.settings import Settings

_TABLE = re.compile(r"\s*\[([A-Za-z0-9_.]+)\]\s*(#.*)?")
_WIDTH = 120


def as_toml(settings: Settings) -> str:
    """A file with every setting, each under its description; what is not set stands as a comment."""
    return "\n".join(_lines(settings, "")).strip("\n") + "\n"


def with_values(text: str, values: Mapping[str, object]) -> str:
    """``text`` with ``values`` (by dotted key) in their places, or added at the end of their tables."""
    lines = text.splitlines()
    for dotted, value in values.items():
        table, _, key = dotted.rpartition(".")
        start, stop = _span(lines, table)
        found = [i for i in range(start, stop) if re.match(rf"\s*#?\s*{re.escape(key)}\s*=", lines[i])]
        if found:
            lines[found[0]] = f"{key} = {_value(value)}"
            continue
        while stop > start and not lines[stop - 1].strip():
            stop -= 1
        lines.insert(stop, f"{key} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _lines(settings: Settings, prefix: str) -> Iterator[str]:
    nested: list[tuple[str, str, Settings]] = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            nested.append((f"{prefix}{name}", field.description or "", value))
            continue
        yield from (f"# {line}" for line in wrap(field.description or "", _WIDTH))
        yield f"# {name} =" if value is None else f"{name} = {_value(value)}"
    for name, description, value in nested:
        yield ""
        yield from (f"# {line}" for line in wrap(description, _WIDTH))
        yield f"[{name}]"
        yield from _lines(value, f"{name}.")


def _span(lines: list[str], table: str) -> tuple[int, int]:
    """The lines of a table, its heading left out; the heading is added at the end where it is missing."""
    headings = [(i, match[1]) for i, line in enumerate(lines) if (match := _TABLE.fullmatch(line))]
    if not table:
        return 0, headings[0][0] if headings else len(lines)
    for place, (i, name) in enumerate(headings):
        if name == table:
            return i + 1, headings[place + 1][0] if place + 1 < len(headings) else len(lines)
    lines += ["", f"[{table}]"]
    return len(lines), len(lines)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        escaped = "".join(_character(character) for character in str(value))
        return f'"{escaped}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    raise InputError(f"a setting cannot be {value!r}")


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
