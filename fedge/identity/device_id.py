"""How a device may be called. The id stands in certificates, key derivations and file names, so its alphabet is small."""

import re

from fedge.errors import InputError

_SYNTAX = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


def check_device_id(device_id: object) -> str:
    """Returns ``device_id``, or raises InputError: 1 to 64 of A-Z a-z 0-9 . _ -, the first and last a letter or digit."""
    if not isinstance(device_id, str) or not _SYNTAX.fullmatch(device_id):
        shown = str(device_id)[:80]
        raise InputError(f"device id {shown!r}: use 1 to 64 letters, digits, '.', '_' or '-', ends a letter or digit")
    return device_id
