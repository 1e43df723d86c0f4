"""Canonical JSON: one value has one encoding, so that what was signed or hashed can be compared byte by byte.

Keys sorted, no spaces, UTF-8, no NaN or infinity, no repeated keys. Reading never repairs: any other spelling of the same
value is refused. Nothing is read before its size is checked.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, NoReturn, cast

from fedge.errors import InputError, VerificationError


def to_canonical(value: object) -> bytes:
    """The canonical bytes of a JSON value. Raises InputError for what JSON cannot say (NaN, infinity, other types)."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"not expressible as canonical JSON: {error}") from None


def from_canonical(data: bytes, *, what: str, max_bytes: int) -> dict[str, Any]:
    """The JSON object whose canonical bytes are ``data``; ``what`` names it in messages. Raises VerificationError."""
    if len(data) > max_bytes:
        raise VerificationError(f"{what}: {len(data)} bytes, more than the {max_bytes} allowed")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
        again = to_canonical(value)
    except (ValueError, RecursionError, InputError) as error:
        raise VerificationError(f"{what}: not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise VerificationError(f"{what}: expected a JSON object, found {type(value).__name__}")
    # Comparing with the one canonical spelling also refuses repeated keys, of which a parser would silently keep the last.
    if again != data:
        raise VerificationError(f"{what}: not in canonical form")
    return cast(dict[str, Any], value)


def require_keys(value: Mapping[str, object], keys: Collection[str], *, what: str) -> None:
    """Exactly ``keys`` stand in ``value``. Raises VerificationError that names what is missing or unknown."""
    missing, unknown = sorted(set(keys) - set(value)), sorted(set(value) - set(keys))
    if missing:
        raise VerificationError(f"{what}: missing {', '.join(missing)}")
    if unknown:
        raise VerificationError(f"{what}: unknown keys {', '.join(unknown)[:200]}")


def hex_bytes(value: object, size: int, *, what: str) -> bytes:
    """The ``size`` bytes that a lower-case hexadecimal string spells. Raises VerificationError."""
    if not isinstance(value, str) or len(value) != 2 * size or not set(value) <= set("0123456789abcdef"):
        raise VerificationError(f"{what}: expected {2 * size} lower-case hexadecimal digits")
    return bytes.fromhex(value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
