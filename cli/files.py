"""Reading the files that a person named on the command line."""

from pathlib import Path

from fedge.errors import InputError
from fedge.toml import read_toml_text


def read_text(path: Path, flag: str) -> str:
    """The text of a TOML file. Raises InputError that names the flag and the file."""
    try:
        return read_toml_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{flag} {path} cannot be read: {error}") from error
