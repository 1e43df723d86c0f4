"""Join tokens under a race, on a real database from several processes, and after their time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedge.errors import InputError, VerificationError
from fedge.identity import Invitation, new_tls_authority
from fedge.identity.wish import make_wish

RACERS, USES = 4, 2000
KEYS = {
    "identity_key": Ed25519PrivateKey.generate(),
    "tls_key": ec.generate_private_key(ec.SECP256R1()),
    "node_key": ec.generate_private_key(ec.SECP384R1()),
}


def test_two_thousand_racing_uses_of_one_token_give_exactly_one_certificate(closed):
    token = closed.authority.new_token(now=time.time())
    each = USES // RACERS
    root = Path(__file__).parents[2]
    racers = [
        subprocess.Popen(
            [
                sys.executable,
                Path(__file__).parent / "race.py",
                closed.home.authority,
                token.hex(),
                str(n * each),
                str(each),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        for n in range(RACERS)
    ]
    try:
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * RACERS
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        won = [int(racer.communicate(timeout=300)[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert sum(won) == 1
    assert [racer.returncode for racer in racers] == [0] * RACERS
    ((device, _),) = closed.authority.devices()
    assert device.issued == 1


def test_a_repetition_by_the_same_keys_gets_the_same_certificates_even_after_the_tokens_time(closed):
    now = time.time()
    token = closed.authority.new_token(now=now)
    name = closed.authority.trust().ca_name
    first = closed.authority.join(token, make_wish(name, "kitchen", **KEYS), now=now + 899)
    again = closed.authority.join(token, make_wish(name, "kitchen", **KEYS), now=now + 5000)
    assert again == first
    with pytest.raises(VerificationError, match="expired"):
        closed.authority.join(token, make_wish(name, "kitchen", **KEYS), now=now + 90_000)


@pytest.mark.parametrize("changed", KEYS)
def test_any_other_key_is_another_device(closed, changed):
    now = time.time()
    token = closed.authority.new_token(now=now)
    name = closed.authority.trust().ca_name
    closed.authority.join(token, make_wish(name, "kitchen", **KEYS), now=now)
    other = {
        "identity_key": Ed25519PrivateKey.generate(),
        "tls_key": ec.generate_private_key(ec.SECP256R1()),
        "node_key": ec.generate_private_key(ec.SECP384R1()),
    }
    with pytest.raises(VerificationError, match="used by another device"):
        closed.authority.join(token, make_wish(name, "kitchen", **{**KEYS, changed: other[changed]}), now=now)


def test_a_wish_for_another_federation_is_refused(closed):
    token = closed.authority.new_token(now=time.time())
    with pytest.raises(VerificationError, match="made for 'elsewhere'"):
        closed.authority.join(token, make_wish("elsewhere", "kitchen", **KEYS), now=time.time())


def invitation() -> Invitation:
    key = new_tls_authority(not_before=0, not_after=4e9).private_key.public_key()
    return Invitation("[fd00::1]:8744", "home-1234abcd", key, bytes(range(32)))


def test_a_join_string_comes_back_and_hides_its_token_where_it_is_shown():
    made = invitation()
    text = made.to_text()
    assert Invitation.from_text(f"  {text}\n") == made
    assert len(text) < 200
    assert repr(made.token) not in repr(made)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text.replace("fedge1:", "fedge2:"),
        lambda text: text.replace(":8744", ":0"),
        lambda text: text.replace(":8744", ":99999"),
        lambda text: text.replace("home-1234abcd/", "home-1234abcd/A"),
        lambda text: text.split("/")[-1],
        lambda text: "",
        lambda text: text.replace("home-1234abcd/A", "home-1234abcd/B"),
    ],
)
def test_a_damaged_join_string_is_refused_without_repeating_its_secret(change):
    text = invitation().to_text()
    with pytest.raises(InputError, match="join string") as refusal:
        Invitation.from_text(change(text))
    assert text.split("/")[-1] not in str(refusal.value)
