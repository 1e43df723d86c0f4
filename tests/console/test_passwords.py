"""Passwords and tokens of the console: what is kept of them, and that unknown names cost the same."""

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import CHEAPEST, RFC_9106_LOW_MEMORY

from aggregator.console.auth.accounts import Passwords
from aggregator.console.auth.tokens import csrf_token, derived, new_token, path_within, token_hash
from fedge.errors import InputError


class Counting(PasswordHasher):
    checks: list[str]

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        self.checks.append(str(hash))
        return bool(super().verify(hash, password))


@pytest.fixture
def hasher() -> Counting:
    made = Counting.from_parameters(CHEAPEST)
    made.checks = []
    return made


def test_kept_passwords_are_argon2id_as_rfc_9106_recommends() -> None:
    stored = Passwords().hash("correct horse battery")
    assert stored.startswith("$argon2id$") and "horse" not in stored
    assert extract_parameters(stored) == RFC_9106_LOW_MEMORY


def test_only_the_right_password_matches(hasher: Counting) -> None:
    passwords = Passwords(hasher)
    stored = passwords.hash("correct horse battery")
    assert passwords.matches(stored, "correct horse battery")
    assert not any(passwords.matches(stored, wrong) for wrong in ("", "correct horse batterY", "correct horse battery "))
    assert not passwords.matches("not a hash", "correct horse battery")
    assert stored != passwords.hash("correct horse battery")


def test_an_unknown_name_is_checked_as_long_as_a_known_one_and_never_matches(hasher: Counting) -> None:
    passwords = Passwords(hasher)
    stored = passwords.hash("correct horse battery")
    passwords.matches(stored, "a wrong password")
    passwords.matches(None, "a wrong password")
    assert len(hasher.checks) == 2
    assert extract_parameters(hasher.checks[1]) == extract_parameters(stored)


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 257])
def test_a_password_that_is_too_short_or_too_long_is_refused(hasher: Counting, password: str) -> None:
    with pytest.raises(InputError, match="12 to 256"):
        Passwords(hasher).hash(password)


def test_a_password_matches_however_a_keyboard_composes_it(hasher: Counting) -> None:
    passwords = Passwords(hasher)
    assert passwords.matches(passwords.hash("caf\u00e9 au lait, bien"), "cafe\u0301 au lait, bien")


def test_weaker_hashes_are_seen(hasher: Counting) -> None:
    assert Passwords().is_outdated(Passwords(hasher).hash("correct horse battery"))


def test_tokens_have_256_bits_and_only_their_hash_is_kept() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100 and all(len(token) == 43 for token in tokens)
    token = tokens.pop()
    assert token not in token_hash(token) and token_hash(token) != token_hash(new_token())


def test_what_is_derived_differs_by_token_and_purpose() -> None:
    one, other = new_token(), new_token()
    made = {csrf_token(one), csrf_token(other), derived(one, "state"), derived(one, "nonce"), derived(one, "verifier")}
    assert len(made) == 5 and csrf_token(one) == derived(one, "csrf")


@pytest.mark.parametrize("target", ["/", "/rounds", "/rounds/3?tab=a#b", "/a//b", "/%2F/x"])
def test_a_login_leads_to_paths_of_this_console(target: str) -> None:
    assert path_within(target) == target


@pytest.mark.parametrize(
    "target",
    [None, "", "rounds", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example",
     "javascript:alert(1)", "/\t/evil.example", "/\n//evil.example", " //evil.example", "/x\r\nSet-Cookie: a=b", "//[",
     "/\x00"],
)  # fmt: skip
def test_a_login_leads_nowhere_else(target: str | None) -> None:
    assert path_within(target) == "/"
