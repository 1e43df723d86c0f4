"""Accounts, the sessions that they log in to, and the tokens of their scripts, over what the store keeps of them.

The store holds hashes alone: of passwords (Argon2id), of cookies and of tokens. Each look-up reads the account anew, so one
that is shut out, or has another role, is so at its next request.

Passwords of local accounts, kept as Argon2id (RFC 9106, its second recommended parameters: 64 MiB, three passes).
"""

import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from aggregator.console.auth.oidc import Identity
from aggregator.console.auth.policy import Role
from aggregator.console.auth.tokens import new_token, token_hash
from aggregator.store import AccountRow, Database, LoginSessionRow
from fedge.errors import InputError, VerificationError

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


# A session's last sign of life is written once a minute, not at each request.
SEEN_EVERY_S = 60.0
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Account:
    """Who is logged in."""

    name: str
    role: Role


class Accounts:
    """Those of one console. ``clock``: UNIX seconds; ``idle_s``, ``max_s``: how long a session lasts unseen and at all."""

    def __init__(
        self,
        database: Database,
        *,
        passwords: Passwords | None = None,
        clock: Callable[[], float] = time.time,
        idle_s: float = 8 * 3600.0,
        max_s: float = 24 * 3600.0,
    ) -> None:
        self._store = database.logins
        self._passwords = passwords or Passwords()
        self._clock = clock
        self._idle_s = idle_s
        self._max_s = max_s

    # Logging in and out.

    def log_in(self, name: str, password: str) -> str | None:
        """The cookie of a new session, or None: whatever is wrong, after the same work."""
        row = self._store.account(name) if _NAME.fullmatch(name) else None
        stored = None if row is None or row.disabled is not None else row.password_hash
        if not self._passwords.matches(stored, password) or row is None or stored is None:
            return None
        if self._passwords.is_outdated(stored):
            self._store.change_account(name, {"password_hash": self._passwords.hash(password)})
        return self._begun(row.name)

    def log_in_as(self, identity: Identity) -> str:
        """The cookie of a new session for whom an OpenID provider vouched for; their role is what it says today.

        Their account is the provider's subject, never a local account that happens to have the same name. Raises
        VerificationError for one that is shut out.
        """
        row = self._store.account_of_subject(identity.issuer, identity.subject)
        if row is not None and row.disabled is not None:
            raise VerificationError("this account is off")
        if row is None:
            name = self._free_name(f"{identity.name}@{identity.issuer.partition('://')[2]}")
            row = AccountRow(
                name=name, role=identity.role, created=self._clock(), issuer=identity.issuer, subject=identity.subject
            )
            self._store.add_account(row)
        elif row.role != identity.role:
            self._store.change_account(row.name, {"role": identity.role})
        return self._begun(row.name)

    def log_out(self, cookie: str) -> None:
        """Ends the session of ``cookie``, if there is one."""
        self._store.end_session(token_hash(cookie))

    def of_session(self, cookie: str, *, is_sign_of_life: bool = True) -> Account | None:
        """Who holds a session that is neither too old nor left alone for too long, of an account that is on."""
        found = self._store.session(token_hash(cookie))
        if found is None:
            return None
        session, row = found
        now = self._clock()
        if row.disabled is not None or now >= session.started + self._max_s or now >= session.seen + self._idle_s:
            self._store.end_session(session.token_hash)
            return None
        if is_sign_of_life and now >= session.seen + SEEN_EVERY_S:
            self._store.see_session(session.token_hash, now)
        return Account(row.name, Role(row.role))

    def of_api_token(self, token: str) -> Account | None:
        """Whose script this is, of an account that is on."""
        row = self._store.account_of_token(token_hash(token))
        return None if row is None or row.disabled is not None else Account(row.name, Role(row.role))

    # Keeping them, on the server's machine.

    def entries(self) -> list[dict[str, object]]:
        """Every account in plain values, without secrets, by name."""
        return [
            {
                "account": row.name,
                "role": row.role,
                "login": "OpenID Connect" if row.issuer is not None else "password",
                "created": row.created,
                "disabled": row.disabled,
                "api_token": row.token_hash is not None,
            }
            for row in self._store.accounts()
        ]

    def add(self, name: str, role: Role, password: str) -> None:
        """A local account. Raises InputError."""
        self.check_new(name)
        stored = self._passwords.hash(password)
        self._store.add_account(AccountRow(name=name, role=role, created=self._clock(), password_hash=stored))

    def check_new(self, name: str) -> None:
        """Raises InputError for a name that cannot be given."""
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is no account's name: up to 64 of a-z, 0-9, dot, hyphen and underscore")
        if self._store.account(name) is not None:
            raise InputError(f"there is an account {name} already: fedge server accounts password sets its password")

    def set_password(self, name: str, password: str) -> None:
        """Also turns the account on again; its sessions end. Raises InputError."""
        row = self.check_known(name)
        if row.issuer is not None:
            raise InputError(f"{name} logs in by OpenID Connect and has no password here")
        changed = {"password_hash": self._passwords.hash(password), "disabled": None}
        self._store.change_account(name, changed, ends_sessions=True)

    def set_role(self, name: str, role: Role) -> None:
        """From the next request on. Raises InputError, also for the last operator."""
        row = self.check_known(name)
        if row.issuer is not None:
            raise InputError(f"{name} has the role that the OpenID provider gives: see console.oidc in server.toml")
        self._store.change_account(name, {"role": role}, check=_keeps_an_operator(row))

    def disable(self, name: str) -> None:
        """Shuts an account out, ends its sessions and its token. Raises InputError, also for the last operator."""
        row = self.check_known(name)
        changed = {"disabled": self._clock(), "token_hash": None}
        self._store.change_account(name, changed, ends_sessions=True, check=_keeps_an_operator(row))

    def new_api_token(self, name: str) -> str:
        """A token for scripts in place of the one before. Raises InputError."""
        row = self.check_known(name)
        if row.disabled is not None:
            raise InputError(f"{name} is shut out: fedge server accounts password lets it in again")
        token = new_token()
        self._store.change_account(name, {"token_hash": token_hash(token)})
        return token

    def check_known(self, name: str) -> AccountRow:
        """The account. Raises InputError where there is none."""
        row = self._store.account(name)
        if row is None:
            known = ", ".join(each.name for each in self._store.accounts())
            raise InputError(f"there is no account {name}; there {f'are {known}' if known else 'is none'}")
        return row

    def _begun(self, name: str) -> str:
        cookie, now = new_token(), self._clock()
        session = LoginSessionRow(token_hash=token_hash(cookie), account=name, started=now, seen=now)
        self._store.begin_session(session, forget_before=now - self._max_s)
        return cookie

    def _free_name(self, wanted: str) -> str:
        """``wanted``, or with a number: two subjects may be called the same."""
        taken, number = {row.name for row in self._store.accounts()}, 1
        name = wanted
        while name in taken:
            number += 1
            name = f"{wanted} {number}"
        return name


def has_operator(database: Database) -> bool:
    """Whether anyone could log in with a password and act."""
    return any(map(_acts, database.logins.accounts()))


def _acts(row: AccountRow) -> bool:
    return row.disabled is None and row.role == Role.OPERATOR and row.password_hash is not None


def _keeps_an_operator(row: AccountRow) -> Callable[[list[AccountRow]], None] | None:
    """A check that ``row`` was not the last who could log in here and act, whatever becomes of an OpenID provider."""

    def check(rows: list[AccountRow]) -> None:
        if not any(map(_acts, rows)):
            raise InputError(f"{row.name} is the last operator: nobody could act any more; make another one first")

    return check if _acts(row) else None
