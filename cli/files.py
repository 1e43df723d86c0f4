"""Reading the files that a person named on the command line."""

from pathlib import Path

from fedge.errors import InputError


def read_text(path: Path, flag: str) -> str:
    """The text of a UTF-8 file. Raises InputError that names the flag and the file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{flag} {path} cannot be read: {error}") from error
