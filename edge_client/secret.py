"""The device's own secret: 32 random bytes in a file of mode 0600, made at the first start. It never leaves the device."""

import os
from pathlib import Path

from fedge.errors import InputError
from fedge.identity.files import write_file

SIZE_BYTES = 32


def own_secret(path: Path) -> bytes:
    """The secret in ``path``, made where there is none. Raises InputError for a file that is no such secret."""
    if not path.exists():
        write_file(path, os.urandom(SIZE_BYTES))
    secret = path.read_bytes()
    if len(secret) != SIZE_BYTES:
        raise InputError(f"{path} has {len(secret)} bytes, not {SIZE_BYTES}: remove it to have a new one made")
    return secret
