"""TOML as people write it, read into plain values: whatever is wrong with a file ends in one InputError."""

import tomllib
from pathlib import Path
from typing import Any

from fedge.errors import InputError

MAX_DEPTH = 32
MAX_TOML_BYTES = 256 * 1024
"""A file that a person writes is far smaller."""
MAX_DOTS = 128
"""In one line: the library takes quadratic time for a dotted key."""


def read_toml_text(path: Path) -> str:
    """Return the text of the file, read up to the cap only. Raises InputError, OSError and UnicodeDecodeError."""
    with path.open("rb") as file:
        data = file.read(MAX_TOML_BYTES + 1)
    if len(data) > MAX_TOML_BYTES:
        raise InputError(f"{path} is larger than {MAX_TOML_BYTES} bytes: a TOML file of settings is not so long")
    return data.decode("utf-8").replace("\r\n", "\n")


def parse_toml(text: str, *, source: str) -> dict[str, Any]:
    """The document in ``text``; ``source`` names it in errors. Raises InputError where the text is not TOML.

    The library's own error is not all that it raises: brackets beyond Python's recursion limit and integers of thousands of
    digits fail in ways of their own. Dotted keys nest without recursion, and would then fail whoever prints the value.
    """
    if len(text) > MAX_TOML_BYTES:
        raise InputError(f"{source} has {len(text)} characters, more than {MAX_TOML_BYTES}: shorten it")
    if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise InputError(f"{source} nests more than {MAX_DEPTH} tables or lists, or has a line of over {MAX_DOTS} dots")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{source} is not TOML that can be read: it nests too deep") from None
    except ValueError as error:
        twice = "overwrite" in str(error) or "declare" in str(error)
        raise InputError(f"{source} is not TOML: {error}{'; a key or table stands there twice' if twice else ''}") from None
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [member for value in level for member in _members(value)]
        if not level:
            return document
    raise InputError(f"{source} nests more than {MAX_DEPTH} tables or lists")


def _members(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
