"""Accounts of the console and their sessions in the store. Every method is one transaction."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from aggregator.store.models import Account, LoginSession
from aggregator.store.rows import AccountRow, LoginSessionRow

Transaction = Callable[[str], AbstractContextManager[Session]]


class LoginStore:
    """Of one run. ``read`` and ``write`` begin a transaction for what is said in words."""

    def __init__(self, read: Transaction, write: Transaction, run_id: int) -> None:
        self._read = read
        self._write = write
        self._run_id = run_id

    def accounts(self) -> list[AccountRow]:
        """All, by name."""
        with self._read("read the accounts") as session:
            found = session.scalars(select(Account).where(Account.run_id == self._run_id).order_by(Account.name))
            return [_account(row) for row in found]

    def account(self, name: str) -> AccountRow | None:
        """By its name."""
        return self._one(Account.name == name)

    def account_of_subject(self, issuer: str, subject: str) -> AccountRow | None:
        """That of an OpenID provider's subject."""
        return self._one(Account.issuer == issuer, Account.subject == subject)

    def account_of_token(self, token_hash: str) -> AccountRow | None:
        """That whose API token has this hash."""
        return self._one(Account.token_hash == token_hash)

    def add_account(self, row: AccountRow) -> None:
        """Raises StoreError for a name or a subject that is taken."""
        with self._write(f"add the account {row.name}") as session:
            session.add(Account(run_id=self._run_id, **asdict(row)))

    def change_account(
        self,
        name: str,
        values: Mapping[str, Any],
        *,
        ends_sessions: bool = False,
        check: Callable[[list[AccountRow]], None] | None = None,
    ) -> None:
        """Sets ``values`` of one account and leaves the others as they are now; ``ends_sessions`` of the account, too.

        ``check`` sees all accounts as they would be: what it raises leaves everything as it was.
        """
        ours = Account.run_id == self._run_id
        with self._write(f"change the account {name}") as session:
            rows = session.scalars(select(Account).where(ours).order_by(Account.name).with_for_update()).all()
            for row in rows:
                if row.name == name:
                    for key, value in values.items():
                        setattr(row, key, value)
            if check is not None:
                check([_account(row) for row in rows])
            if ends_sessions:
                gone = delete(LoginSession).where(LoginSession.run_id == self._run_id, LoginSession.account == name)
                session.execute(gone)

    def begin_session(self, row: LoginSessionRow, *, forget_before: float) -> None:
        """Adds a session; those that were seen last before ``forget_before`` are over and go."""
        with self._write("begin a login") as session:
            old = delete(LoginSession).where(LoginSession.run_id == self._run_id, LoginSession.seen < forget_before)
            session.execute(old)
            session.add(LoginSession(run_id=self._run_id, **asdict(row)))

    def session(self, token_hash: str) -> tuple[LoginSessionRow, AccountRow] | None:
        """A session with its account as it is now."""
        pair = select(LoginSession, Account).join(
            Account, (Account.run_id == LoginSession.run_id) & (Account.name == LoginSession.account)
        )
        with self._read("look up a login") as session:
            found = session.execute(
                pair.where(LoginSession.run_id == self._run_id, LoginSession.token_hash == token_hash)
            ).one_or_none()
            if found is None:
                return None
            row, account = found
            shown = LoginSessionRow(token_hash=row.token_hash, account=row.account, started=row.started, seen=row.seen)
            return shown, _account(account)

    def see_session(self, token_hash: str, at: float) -> None:
        """The session's last sign of life."""
        seen = update(LoginSession).where(LoginSession.run_id == self._run_id, LoginSession.token_hash == token_hash)
        with self._write("keep a login") as session:
            session.execute(seen.values(seen=at))

    def end_session(self, token_hash: str) -> None:
        """Nothing where there is none."""
        with self._write("end a login") as session:
            gone = delete(LoginSession).where(LoginSession.run_id == self._run_id, LoginSession.token_hash == token_hash)
            session.execute(gone)

    def _one(self, *conditions: ColumnElement[bool]) -> AccountRow | None:
        with self._read("read an account") as session:
            found = session.scalar(select(Account).where(Account.run_id == self._run_id, *conditions))
            return None if found is None else _account(found)


def _account(found: Account) -> AccountRow:
    values: dict[str, Any] = {name: getattr(found, name) for name in AccountRow.__slots__}
    return AccountRow(**values)
