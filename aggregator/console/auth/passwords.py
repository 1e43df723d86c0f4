"""Passwords of local accounts, kept as Argon2id (RFC 9106, its second recommended parameters: 64 MiB, three passes)."""

import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from fedge.errors import InputError

MIN_CHARACTERS, MAX_CHARACTERS = 12, 256
# Each check takes 64 MiB: strangers who try many at once must not take the machine's memory.
CHECKS_AT_ONCE = 2


class Passwords:
    """Hashes and checks passwords. ``hasher``: with other parameters, for tests."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turn = threading.BoundedSemaphore(CHECKS_AT_ONCE)
        self._decoy = ""

    def hash(self, password: str) -> str:
        """What is stored. Raises InputError for a password that is too short or too long."""
        if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
            raise InputError(f"a password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters, this one {len(password)}")
        return self._hasher.hash(_normal(password))

    def matches(self, stored: str | None, password: str) -> bool:
        """Whether ``password`` is the stored one; never where nothing is stored, and after the same work."""
        with self._turn:
            # What an unknown name is checked against, so that it takes as long as a known one; made at the first check.
            self._decoy = self._decoy or self._hasher.hash(secrets.token_urlsafe(32))
            try:
                self._hasher.verify(stored or self._decoy, _normal(password[: MAX_CHARACTERS + 1]))
            except (Argon2Error, InvalidHashError):
                return False
        return stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether a hash was made with weaker parameters than today's and should be made anew at the next login."""
        return self._hasher.check_needs_rehash(stored)


def _normal(password: str) -> str:
    """One spelling for what looks alike, whatever the keyboard (RFC 8265)."""
    return unicodedata.normalize("NFC", password)
