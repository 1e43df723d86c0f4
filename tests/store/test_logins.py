"""Accounts and logins in the store: what is unique, what changes together, and what a refused change leaves."""

from dataclasses import replace

import pytest

from aggregator.store import AccountRow, Database, LoginSessionRow, StoreError

ADA = AccountRow(name="ada", role="operator", created=1.5, password_hash="$argon2id$...")
OLGA = AccountRow(name="olga@login.example", role="viewer", created=2.0, issuer="https://login.example", subject="o-1")


def session(token: str, account: str = "ada", seen: float = 10.0) -> LoginSessionRow:
    return LoginSessionRow(token_hash=token * 64, account=account, started=5.0, seen=seen)


def test_accounts_come_back_by_name_subject_and_token(database):
    logins = database.logins
    logins.add_account(OLGA)
    logins.add_account(replace(ADA, token_hash="t" * 64))
    assert [row.name for row in logins.accounts()] == ["ada", "olga@login.example"]
    assert logins.account("ada") == replace(ADA, token_hash="t" * 64) and logins.account("nobody") is None
    assert logins.account_of_subject("https://login.example", "o-1") == OLGA
    assert logins.account_of_subject("https://login.example", "o-2") is None
    assert logins.account_of_token("t" * 64).name == "ada" and logins.account_of_token("") is None


def test_a_name_a_subject_and_a_token_are_one_accounts(database):
    logins = database.logins
    logins.add_account(replace(ADA, token_hash="t" * 64))
    logins.add_account(OLGA)
    for taken in (
        ADA,
        replace(OLGA, name="another"),
        replace(ADA, name="another", token_hash="t" * 64),
    ):
        with pytest.raises(StoreError):
            logins.add_account(taken)
    logins.add_account(replace(ADA, name="without-any-of-them"))
    assert len(logins.accounts()) == 3


def test_a_change_leaves_what_it_does_not_name_and_a_refused_one_everything(database):
    logins = database.logins
    logins.add_account(ADA)
    logins.begin_session(session("a"), forget_before=0.0)
    logins.change_account("ada", {"disabled": 3.0})
    assert logins.account("ada") == replace(ADA, disabled=3.0)

    def refuse(rows):
        assert [row.role for row in rows] == ["viewer"]  # as it would be
        raise ValueError("no")

    with pytest.raises((StoreError, ValueError), match="no"):
        logins.change_account("ada", {"role": "viewer"}, ends_sessions=True, check=refuse)
    assert logins.account("ada").role == "operator" and logins.session("a" * 64) is not None
    logins.change_account("ada", {"role": "viewer"}, ends_sessions=True)
    assert logins.account("ada").role == "viewer" and logins.session("a" * 64) is None


def test_sessions_begin_are_seen_and_end_and_old_ones_go(database):
    logins = database.logins
    logins.add_account(ADA)
    logins.begin_session(session("a", seen=10.0), forget_before=0.0)
    logins.begin_session(session("b", seen=20.0), forget_before=0.0)
    logins.see_session("b" * 64, 30.0)
    assert logins.session("b" * 64) == (session("b", seen=30.0), ADA)
    logins.begin_session(session("c", seen=40.0), forget_before=15.0)
    assert logins.session("a" * 64) is None and logins.session("b" * 64) is not None
    logins.end_session("b" * 64)
    logins.end_session("b" * 64)
    assert logins.session("b" * 64) is None and logins.session("c" * 64) is not None
    with pytest.raises(StoreError):
        logins.begin_session(session("d", account="nobody"), forget_before=0.0)


def test_runs_in_one_database_have_accounts_of_their_own(database, url):
    database.logins.add_account(ADA)
    database.logins.begin_session(session("a"), forget_before=0.0)
    with Database.open(url, run="other") as other:
        assert other.logins.accounts() == [] and other.logins.session("a" * 64) is None
        other.logins.change_account("ada", {"role": "viewer"}, ends_sessions=True)
        other.logins.end_session("a" * 64)
        other.logins.add_account(ADA)
    assert database.logins.account("ada") == ADA and database.logins.session("a" * 64) is not None
