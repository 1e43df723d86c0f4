"""Settings files: TOML read into typed models, unknown keys refused, one line for what is wrong.

A part's settings are a `Settings` subclass beside that part; the reference in `docs/configuration.md` is generated from the
models' own descriptions, so the two cannot drift.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fedge.errors import InputError
from fedge.toml import parse_toml, read_toml_text


class Settings(BaseModel):
    """Base of every settings model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Settings)


def read_settings(model: type[S], path: Path) -> S:
    """The settings in the TOML file ``path``. Raises InputError that names the file, the key and what it must be."""
    try:
        text = read_toml_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return parse_settings(model, text, source=str(path))


def parse_settings(model: type[S], text: str, *, source: str) -> S:
    """The settings in ``text``; ``source`` names it in errors. Raises InputError."""
    try:
        return model.model_validate(parse_toml(text, source=source))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise InputError(f"{source}: {key} is no setting: see docs/configuration.md for those there are") from None
        raise InputError(f"{source}: {key} is {first['input']!r}: {first['msg']}") from None


def describe(model: type[Settings], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """``(key, type, default, description)`` of every setting, nested tables with dotted keys, in the model's order."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            yield from describe(kind, f"{prefix}{name}.")
            continue
        shown = getattr(kind, "__name__", str(kind)) if isinstance(kind, type) else str(kind).replace("typing.", "")
        default = "(required)" if field.is_required() else str(field.get_default(call_default_factory=True))
        yield f"{prefix}{name}", shown.replace("pathlib.", ""), default, field.description or ""
