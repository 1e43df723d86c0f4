"""Renewal, revocation, wrong clocks and stolen certificates, over real TLS at a real door."""

import random
from threading import Event, Thread
from types import SimpleNamespace

import grpc
import pytest

from edge_client.fleet_plugins import _federation
from edge_client.membership.channel import DoorChannel
from edge_client.membership.clock_check import clock_warning
from edge_client.membership.credentials import keep_revocations, load_keys, load_or_create_keys, load_trust
from edge_client.membership.enrollment import EnrollmentFailed, enroll, wish_message
from edge_client.membership.renewal import RenewalFailed, Renewer
from fedge.errors import VerificationError
from fedge.identity import RevocationList
from fedge.identity.tls import certificate_span
from protos.fedge.fleet.v1 import enrolment_pb2 as pb
from protos.fedge.fleet.v1 import enrolment_pb2_grpc

DAY = 86_400.0


def renewer(federation, home, *, clock=None, **how):
    return Renewer(home, home.settings(), clock=clock or federation.clock, rng=random.Random(7), timeout_s=20, **how)


def joined_earlier(federation, days, name="kitchen"):
    """A device that joined so many days ago. TLS reads the machine's clock, so the past is where time can be moved to."""
    federation.clock.shift_s = -days * DAY
    home = federation.enroll(name)
    federation.clock.shift_s = 0.0
    return home


def certificates(home):
    return home.tls_certificate.read_bytes(), home.identity_certificate.read_bytes()


def test_certificates_are_renewed_at_two_thirds_of_their_life_and_not_before(federation):
    home = federation.enroll("kitchen")
    start, end = certificate_span(home.tls_certificate.read_bytes())
    keeper = renewer(federation, home)
    assert start + 0.6 * (end - start) <= keeper.due_at() <= start + 2 / 3 * (end - start) + 1
    before = certificates(home)
    assert not keeper.step().certificates
    assert certificates(home) == before
    old = joined_earlier(federation, 0.7, "cellar")
    keeper, before = renewer(federation, old), certificates(old)
    assert keeper.step().certificates
    after = certificates(old)
    assert not set(after) & set(before)
    assert certificate_span(after[0])[1] > end - 60
    assert federation.ask(old).revocations
    assert not keeper.due(federation.clock())
    assert not keeper.step().certificates
    assert federation.authority.enrolment.device("cellar").issued == 2


def test_the_channel_takes_up_renewed_certificates_by_itself(federation):
    home = federation.enroll("kitchen")
    door = DoorChannel(home, home.settings().fleet)
    first = door()
    assert door() is first
    renewer(federation, home, door=door).renew()
    assert door() is not first
    door.close()


def test_a_door_that_is_out_of_reach_changes_nothing_until_it_is_back(closed):
    with closed.open():
        home = joined_earlier(closed, 0.7)
    before = {path: path.read_bytes() for path in home.folder.iterdir() if path.is_file()}
    keeper = renewer(closed, home)
    with pytest.raises(RenewalFailed, match="out of reach"):
        keeper.step()
    assert {path: path.read_bytes() for path in home.folder.iterdir() if path.is_file()} == before
    with closed.open():
        assert keeper.step().certificates


def test_the_loop_survives_a_door_that_shuts_and_opens(closed):
    stopping, changed, seen = Event(), Event(), []
    with closed.open():
        home = joined_earlier(closed, 0.7)
    loop = Thread(
        target=renewer(closed, home).run,
        args=(stopping,),
        kwargs={"changed": lambda changes: (seen.append(changes), changed.set()), "period_s": 0.2},
    )
    loop.start()
    try:
        assert not changed.wait(0.5)  # the door is shut
        with closed.open():
            assert changed.wait(60)
    finally:
        stopping.set()
        loop.join(60)
    assert seen[0].certificates


def test_a_device_that_was_away_for_days_comes_back_without_a_token(federation):
    home = joined_earlier(federation, 3)
    with pytest.raises(grpc.RpcError):
        federation.ask(home)
    assert renewer(federation, home).step().certificates
    assert federation.ask(home).revocations


def test_a_device_that_was_away_for_months_needs_a_new_token(federation):
    home = joined_earlier(federation, 40)
    with pytest.raises(RenewalFailed, match="away too long"):
        renewer(federation, home).step()
    enroll(federation.invite(), home, "kitchen")
    assert federation.ask(home).revocations


def test_a_connection_does_not_outlive_the_certificate_that_opened_it(federation):
    home = federation.enroll("kitchen")
    door = DoorChannel(home, home.settings().fleet)
    call = enrolment_pb2_grpc.EnrolmentStub(door()).Revocations
    assert call(pb.RevocationsRequest(), timeout=20).revocations
    federation.clock.shift_s = DAY
    with pytest.raises(grpc.RpcError) as refusal:
        call(pb.RevocationsRequest(), timeout=20)
    assert refusal.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "has expired: renew it" in refusal.value.details()
    door.close()


def test_a_revoked_device_is_cut_off_at_its_next_call_and_nobody_else(federation):
    home, other = federation.enroll("kitchen"), federation.enroll("cellar")
    doors = [DoorChannel(one, one.settings().fleet) for one in (home, other)]
    kitchen, cellar = (enrolment_pb2_grpc.EnrolmentStub(door()) for door in doors)
    assert kitchen.Revocations(pb.RevocationsRequest(), timeout=20).revocations
    federation.revoke("kitchen")
    for call, request in (
        (kitchen.Revocations, pb.RevocationsRequest()),
        (kitchen.Trust, pb.TrustRequest(number=1)),
        (kitchen.Renew, pb.RenewRequest()),
    ):
        with pytest.raises(grpc.RpcError) as refusal:  # on the connection that was open before
            call(request, timeout=20)
        assert refusal.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "revoked" in refusal.value.details()
    assert cellar.Revocations(pb.RevocationsRequest(), timeout=20).revocations
    with pytest.raises(RenewalFailed, match="revoked") as refused:
        renewer(federation, home).step()
    assert refused.value.refused
    for door in doors:
        door.close()


def test_peers_learn_of_a_revocation_and_never_go_back(federation):
    home = federation.enroll("kitchen")
    federation.enroll("cellar")
    old = federation.authority.signed_revocations(now=federation.clock() - 10)
    federation.revoke("cellar")
    assert renewer(federation, home).step().revocations
    kept = home.revocations.read_bytes()
    trust = load_trust(home)
    with pytest.raises(VerificationError, match="older than list 1"):
        keep_revocations(home, trust, old, now=federation.clock())
    foreign = RevocationList(9, federation.clock(), frozenset()).sign(federation.keys.round)
    with pytest.raises(VerificationError, match="does not verify"):
        keep_revocations(home, trust, foreign, now=federation.clock())
    assert home.revocations.read_bytes() == kept
    assert not renewer(federation, home).step().revocations


def test_sessions_go_by_the_age_of_the_list_on_disk_and_by_none_not_at_all(federation):
    home = federation.enroll("kitchen")
    known = _federation(SimpleNamespace(home=home, settings=home.settings(), clock=federation.clock))
    assert federation.clock() - 60 < known.revocations_issued() <= federation.clock()
    federation.clock.shift_s = 3600.0
    federation.revoke("kitchen")
    keep_revocations(
        home, load_trust(home), federation.authority.signed_revocations(now=federation.clock()), now=federation.clock()
    )
    assert federation.clock() - 60 < known.revocations_issued() <= federation.clock()
    assert list(known.revoked) == ["kitchen"]
    home.revocations.unlink()
    again = _federation(SimpleNamespace(home=home, settings=home.settings(), clock=federation.clock))
    assert again.revocations_issued() == 0.0


def test_a_certificate_without_its_key_is_of_no_use(federation):
    home, thief = federation.enroll("kitchen"), federation.device("thief")
    load_or_create_keys(thief)
    for name in ("tls.crt", "ca.crt", "identity.crt", "trust.json", "device.toml", "revocations"):
        (thief.folder / name).write_bytes((home.folder / name).read_bytes())
    with pytest.raises(grpc.RpcError) as refusal:
        federation.ask(thief)
    assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(RenewalFailed, match=r"belongs to another key|joined with other keys"):
        renewer(federation, thief)._come_back()


def test_a_stranger_who_wants_to_come_back_waits_for_no_lock_and_holds_none(closed):
    wish = load_or_create_keys(closed.device("stranger")).wish(closed.authority.trust().ca_name, "stranger")
    assert closed.authority.devices() == []  # the files are open
    with closed.authority._tables.write(), pytest.raises(VerificationError, match="never joined"):
        closed.authority.renew(wish, now=closed.clock(), caller=None)


def test_one_device_cannot_renew_in_the_name_of_another(federation):
    kitchen, cellar = federation.enroll("kitchen"), federation.enroll("cellar")
    wish = load_keys(kitchen).wish(load_trust(kitchen).ca_name, "kitchen")
    with pytest.raises(grpc.RpcError) as refusal:
        federation.ask(cellar, "Renew", pb.RenewRequest(wish=wish_message(wish)))
    assert "does not name device kitchen" in refusal.value.details()
    before = federation.authority.enrolment.device("kitchen").issued
    assert before == 1


def test_keys_cannot_be_changed_by_a_renewal(federation):
    home = federation.enroll("kitchen")
    home.node_key.unlink()
    load_or_create_keys(home)
    with pytest.raises(RenewalFailed, match="joined with other keys"):
        renewer(federation, home).renew()


@pytest.mark.parametrize("days", [-20, 20])
def test_a_wrong_clock_is_recognised_when_no_connection_comes_about(closed, days):
    """TLS reads the machine's clock, so the server is moved instead: seen from there, this device is days off."""
    closed.clock.shift_s = days * DAY
    with closed.open():
        invitation = closed.invite()
        with pytest.raises(EnrollmentFailed, match=r"clock says .* certificate is valid from .*: set the clock"):
            enroll(invitation, closed.device("kitchen"), "kitchen")
        closed.clock.shift_s = 0.0
        closed.publish()
        home = closed.enroll("kitchen")
        closed.clock.shift_s = days * DAY
        closed.publish()
        with pytest.raises(RenewalFailed, match=r"clock says .* certificate is valid from"):
            renewer(closed, home, clock=lambda: closed.clock() - days * DAY).step()


@pytest.mark.parametrize(("hours", "way"), [(2.5, "ahead"), (-2.5, "behind")])
def test_a_clock_that_is_hours_off_is_named_while_all_goes_on(federation, hours, way):
    home = federation.enroll("kitchen")
    changes = renewer(federation, home, clock=lambda: federation.clock() + hours * 3600).step()
    assert f"this device's clock is 2.5 hours {way}" in changes.warning
    done = enroll(
        federation.invite(), federation.device("cellar"), "cellar", clock=lambda: federation.clock() + hours * 3600
    )
    assert f"2.5 hours {way}" in done.warning


def test_a_clock_within_tolerance_is_not_worth_a_word():
    assert clock_warning(device_s=1000.0, server_s=1100.0) is None
    assert clock_warning(device_s=1000.0, server_s=1121.0) == (
        "this device's clock is 2 minutes behind: it says 1970-01-01 00:16 UTC, the server 1970-01-01 00:18 UTC"
    )


def test_a_clock_behind_the_certificates_end_does_not_lock_a_device_out(federation):
    """Its certificate looks good to the device and is over for the server."""
    home = joined_earlier(federation, 1.5)
    changes = renewer(federation, home, clock=lambda: federation.clock() - 1.5 * DAY).step()
    assert changes.certificates
    assert "behind" in changes.warning
