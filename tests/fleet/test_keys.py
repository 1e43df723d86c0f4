"""Keys change while devices go on, and come back from a backup: over real TLS at a real door."""

import asyncio
import json
import random
import shutil
import stat
from dataclasses import replace
from threading import Event, Thread
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aggregator.fleet.authentication import nobody
from aggregator.fleet.authority import Authority
from aggregator.fleet.gateway import ServerTls, serve_door
from aggregator.fleet.key_rotation import announce, back_up, rotate_round_key, switch
from aggregator.fleet.keys import AggregatorKeys
from aggregator.fleet.trust_log import MAX_STEPS
from aggregator.settings import ServerHome
from edge_client import fleet_plugins
from edge_client.membership.channel import DoorChannel, credentials
from edge_client.membership.credentials import load_member, load_trust
from edge_client.membership.enrollment import EnrollmentFailed, enroll
from edge_client.membership.renewal import RenewalFailed, Renewer
from fedge.errors import InputError, VerificationError
from fedge.identity import TrustRoot
from fedge.identity.certificates import verify_certificate
from fedge.identity.tls import certificate_span, is_issued_by, read_pem
from fedge.release import load_private_key

DAY = 86_400.0


def step(federation, home):
    return Renewer(home, home.settings(), clock=federation.clock, rng=random.Random(7), timeout_s=20).step()


def test_a_new_round_key_reaches_devices_over_the_door(federation):
    home = federation.enroll("kitchen")
    old = federation.keys.round.public_key()
    assert load_trust(home).round_key == old
    rotate_round_key(federation.authority, federation.home)
    fresh = AggregatorKeys.open(federation.home.keys).round.public_key()
    assert fresh != old
    assert step(federation, home).trust
    assert load_trust(home).round_key == fresh
    assert not step(federation, home).trust
    assert stat.S_IMODE((federation.home.keys / "round.pem").stat().st_mode) == 0o600
    assert federation.authority.devices()[0][1].trust_number == 2


def test_a_session_under_an_unknown_round_key_makes_the_device_fetch_the_new_one_at_once_and_only_now_and_then(
    federation, monkeypatch
):
    home = federation.enroll("kitchen")
    door = DoorChannel(home, home.settings().fleet)
    part = fleet_plugins.FleetPart(door)
    process = SimpleNamespace(home=home, settings=home.settings(), clock=federation.clock, renewed=lambda: None)
    now_s = [100.0]
    monkeypatch.setattr(fleet_plugins.time, "monotonic", lambda: now_s[0])
    loop, woken = part.membership_loop(process), []
    monkeypatch.setattr(loop, "wake", lambda: woken.append(now_s[0]))
    held = part.federation(process)
    for second in (100.0, 101.0, 109.0, 110.0, 111.0):
        now_s[0] = second
        held.unknown_round_key()
    assert woken == [100.0, 110.0]
    door.close()


def test_a_device_that_is_told_of_an_unknown_round_key_holds_the_new_one_without_waiting_for_its_turn(
    federation, monkeypatch
):
    home = federation.enroll("kitchen")
    door = DoorChannel(home, home.settings().fleet)
    stepped, fetched, step_now = Event(), Event(), Renewer.step

    def noted(renewer):
        changes = step_now(renewer)
        stepped.set()
        return changes

    monkeypatch.setattr(Renewer, "step", noted)
    part = fleet_plugins.FleetPart(door)
    process = SimpleNamespace(home=home, settings=home.settings(), clock=federation.clock, renewed=fetched.set)
    loop = part.membership_loop(process)
    loop.start()
    assert stepped.wait(20)
    rotate_round_key(federation.authority, federation.home)
    assert not fetched.is_set()
    part.federation(process).unknown_round_key()
    assert fetched.wait(20)
    loop.stop()
    loop.join(20)
    door.close()
    assert load_trust(home).round_key == AggregatorKeys.open(federation.home.keys).round.public_key()


def test_a_device_that_was_away_follows_every_step(federation):
    home = federation.enroll("kitchen")
    for _ in range(MAX_STEPS + 3):  # more than one reply holds
        rotate_round_key(federation.authority, federation.home)
    step(federation, home)
    assert load_trust(home) == federation.authority.trust()
    assert load_trust(home).number == MAX_STEPS + 4


def test_a_rotation_that_was_cut_short_is_finished_by_the_next(federation):
    keys = federation.home.keys
    rotate_round_key(federation.authority, federation.home)
    number = federation.authority.trust().number
    (keys / "round.pem").rename(keys / "round-next.pem")  # as it stood before the last step
    rotate_round_key(federation.authority, federation.home)
    assert federation.authority.trust().number == number
    assert AggregatorKeys.open(keys).round.public_key() == federation.authority.trust().round_key


def test_only_the_authority_can_lead_a_device_to_other_keys(federation):
    trust = federation.authority.trust()
    forged = replace(trust, number=2, round_key=federation.keys.release.public_key(), release_key=trust.round_key)
    with pytest.raises(VerificationError, match="does not verify"):
        trust.successor(forged.signed(federation.keys.release))
    own = load_private_key(federation.home.authority / "identity.pem")
    assert trust.successor(forged.signed(own)) == forged
    for wrong in (replace(forged, number=3), replace(forged, number=1), replace(forged, ca_name="other")):
        with pytest.raises(VerificationError, match="does not follow"):
            trust.successor(wrong.signed(own))


def test_the_enrolment_authority_changes_with_an_overlap(federation):
    home, other = federation.enroll("kitchen"), federation.enroll("cellar")
    authority = federation.authority
    first = authority.trust().authority_key
    with pytest.raises(InputError, match="no authority key is announced"):
        switch(authority, "authority", now=federation.clock())
    announce(authority, "authority", now=federation.clock())
    assert announce(authority, "authority", now=federation.clock()).number == 2
    with pytest.raises(InputError, match=r"2 devices do not know the new key yet \(cellar, kitchen\)"):
        switch(authority, "authority", now=federation.clock())
    for one in (home, other):
        step(federation, one)  # takes it up
        step(federation, one)  # says so
    switch(authority, "authority", now=federation.clock())
    federation.publish()
    root = authority.trust()
    assert root.authority_key != first
    # A peer with a certificate of the old authority, and one with the new: both count, for those who know both.
    late = federation.enroll("attic")
    old_member, new_member = home.identity_certificate.read_bytes(), late.identity_certificate.read_bytes()
    verify_certificate(new_member, root.authority_key, federation.clock())
    step(federation, other)
    for certificate in (old_member, new_member):
        load_trust(other).verify_certificate(certificate, federation.clock())
    with pytest.raises(VerificationError):
        load_trust(other).verify_certificate(old_member, federation.clock() + 3 * DAY)
    # The old one's device renews under the new one.
    step(federation, home)
    Renewer(home, home.settings(), clock=federation.clock, timeout_s=20).renew()
    assert load_member(home, now=federation.clock()).device_id == "kitchen"
    verify_certificate(home.identity_certificate.read_bytes(), root.authority_key, federation.clock())
    federation.revoke("attic")
    assert step(federation, home).revocations


def test_the_tls_authority_changes_with_an_overlap_and_no_restart(federation):
    home = federation.enroll("kitchen")
    authority = federation.authority
    announce(authority, "tls", now=federation.clock())
    federation.publish()
    old = read_pem(authority.tls.certificate)
    invitation = federation.invite()  # made before the switch, used before it
    step(federation, home)
    step(federation, home)
    assert home.tls_authority.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    enroll(invitation, federation.device("cellar"), "cellar")
    with pytest.raises(InputError, match="1 devices do not know"):
        # It knows the new authority from its joining, but has not been asked yet.
        authority.note_trust("cellar", 1, now=federation.clock())
        switch(authority, "tls", now=federation.clock())
    step(federation, federation.device("cellar"))
    switch(authority, "tls", now=federation.clock())
    federation.publish()
    new = read_pem(authority.tls.certificate)
    assert is_issued_by(read_pem((federation.home.tls / "server.crt").read_bytes()), new)
    # The door shows its new certificate from the next connection on; the device's old one still counts there.
    assert is_issued_by(read_pem(home.tls_certificate.read_bytes()), old)
    assert federation.ask(home).revocations
    Renewer(home, home.settings(), clock=federation.clock, timeout_s=20).renew()
    assert is_issued_by(read_pem(home.tls_certificate.read_bytes()), new)
    assert federation.ask(home).revocations
    assert step(federation, home).trust
    federation.enroll("attic")


def test_a_device_that_missed_the_change_of_tls_authority_is_told_to_enroll_again(federation):
    home = federation.enroll("kitchen")
    announce(federation.authority, "tls", now=federation.clock())
    switch(federation.authority, "tls", now=federation.clock(), force=True)
    federation.publish()
    with pytest.raises(RenewalFailed, match="an unknown authority signed its certificate"):
        step(federation, home)
    enroll(federation.invite(), home, "kitchen")
    assert federation.ask(home).revocations


def test_servers_certificates_are_renewed_in_time_and_only_then(closed):
    closed.clock.shift_s = -5 * DAY
    closed.publish()
    path = closed.home.tls / "server.crt"
    first = path.read_bytes()
    closed.clock.shift_s = -4 * DAY
    closed.publish()
    assert path.read_bytes() == first
    closed.clock.shift_s = 0.0
    closed.publish()
    assert path.read_bytes() != first
    assert certificate_span(path.read_bytes())[1] > certificate_span(first)[1]
    second = path.read_bytes()
    closed.values["names"] = ("localhost", "fedge.example.org")
    closed.publish()
    assert path.read_bytes() != second


def test_a_server_comes_back_from_its_backup(closed, tmp_path):
    with closed.open():
        home = closed.enroll("kitchen")
        invitation = closed.invite()
        names = back_up(closed.home, tmp_path / "backup")  # while the door is open
    assert {"authority/identity.pem", "authority/tls.key", "authority/enrolment.sqlite", "keys/round.pem"} <= set(names)
    for path in (tmp_path / "backup").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    with pytest.raises(InputError, match="exists"):
        back_up(closed.home, tmp_path / "backup")
    trust = closed.authority.trust()
    shutil.rmtree(closed.home.folder)
    shutil.copytree(tmp_path / "backup", closed.home.folder)
    closed.authority = Authority(closed.home.authority)
    assert closed.authority.trust() == trust
    with closed.open():
        assert closed.ask(home).revocations  # the device notices nothing
        assert not step(closed, home).reconnect
        enroll(invitation, closed.device("cellar"), "cellar")  # not even the token is lost
        with pytest.raises(EnrollmentFailed, match="used by another"):
            enroll(invitation, closed.device("attic"), "attic")


def test_a_folder_without_an_authority_is_said_to_be_one(tmp_path):
    with pytest.raises(InputError, match="run `fedge server init`"):
        Authority(tmp_path)
    with pytest.raises(InputError, match="nothing to back up"):
        back_up(ServerHome(tmp_path), tmp_path / "backup")


def test_a_trust_log_that_was_tampered_with_is_refused(closed):
    rotate_round_key(closed.authority, closed.home)
    path = closed.home.authority / "trust" / "000002.json"
    document = json.loads(path.read_bytes())
    document["signature"] = "0" * 128
    path.write_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(InputError, match="cannot be trusted"):
        Authority(closed.home.authority).trust()


def test_trust_roots_keep_their_form(closed):
    root = closed.authority.trust()
    announce(closed.authority, "authority", now=closed.clock())
    announce(closed.authority, "tls", now=closed.clock())
    newest = closed.authority.trust()
    assert newest.number == root.number + 2
    assert TrustRoot.from_bytes(newest.to_bytes()) == newest
    assert newest.fingerprint != root.fingerprint


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_device_that_is_named_like_a_server_cannot_pose_as_it(federation, name):
    """The same authority signs both, and the device's name is the server's: what a certificate is for stands in the way."""
    victim, impostor = federation.enroll("kitchen"), federation.enroll(name)
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    tls = ServerTls(impostor.tls_certificate, impostor.tls_key, impostor.tls_authority)
    served = serve_door("127.0.0.1:0", tls, services=[], is_revoked=nobody, clock=federation.clock)
    false_door = asyncio.run_coroutine_threadsafe(served, loop).result()
    try:
        with (
            grpc.secure_channel(f"{name}:{false_door.port}", credentials(victim)) as channel,
            pytest.raises(grpc.RpcError) as refusal,
        ):
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
    finally:
        asyncio.run_coroutine_threadsafe(false_door.stop(0), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
