"""One version apart works, two are refused in one line: both ends over real TLS; messages with fields too many, too few."""

import pytest

from aggregator.fleet import enrollment_service as servers
from edge_client.membership import enrollment as devices
from edge_client.membership.enrollment import EnrollmentFailed, enroll
from edge_client.membership.renewal import RenewalFailed, Renewer
from fedge import compatibility
from fedge.compatibility import PROTOCOL, check_protocol
from fedge.errors import FedgeError, InputError
from fedge.secagg.session import Descriptor
from protos.fedge.fleet.v1 import enrolment_pb2 as pb
from protos.fedge.rounds.v1 import rounds_pb2
from protos.fedge.secagg.v1 import secagg_pb2

UNKNOWN = b"\xfa\x3e\x05later"  # field 1007, length-delimited: of a version to come


def renew(federation, home):
    Renewer(home, home.settings(), clock=federation.clock, timeout_s=20).renew()


@pytest.mark.parametrize(("theirs", "ours"), [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (7, 8)])
def test_one_step_apart_is_fine_and_an_end_that_says_nothing_speaks_the_first(theirs, ours):
    check_protocol(theirs, ours=ours, who="the device")


@pytest.mark.parametrize(
    ("theirs", "ours", "said"), [(0, 3, "update the device"), (1, 3, "update the device"), (5, 3, "update this end")]
)
def test_two_steps_apart_is_refused_with_the_end_to_update(theirs, ours, said):
    with pytest.raises(InputError, match=said):
        check_protocol(theirs, ours=ours, who="the device")


@pytest.mark.parametrize("spoken", [PROTOCOL - 1, PROTOCOL + 1])
def test_a_device_one_step_away_joins_and_renews_at_a_real_door(federation, monkeypatch, spoken):
    monkeypatch.setattr(devices, "PROTOCOL", spoken)
    home = federation.enroll("kitchen")
    before = home.tls_certificate.read_bytes()
    renew(federation, home)
    assert home.tls_certificate.read_bytes() != before


def test_a_device_of_secure_aggregation_version_1_is_refused_when_it_joins(federation, monkeypatch):
    monkeypatch.setattr(devices, "PROTOCOL", 0)  # it says no number
    with pytest.raises(EnrollmentFailed, match="speaks protocol 1, this end 3"):
        federation.enroll("kitchen")


def test_a_device_two_steps_newer_is_told_so_when_it_joins_and_when_it_renews(federation, monkeypatch):
    home = federation.enroll("kitchen")
    monkeypatch.setattr(devices, "PROTOCOL", PROTOCOL + 2)
    with pytest.raises(EnrollmentFailed, match=f"speaks protocol {PROTOCOL + 2}"):
        enroll(federation.invite(), federation.device("hall"), "hall")
    before = home.tls_certificate.read_bytes()
    with pytest.raises(RenewalFailed, match=f"speaks protocol {PROTOCOL + 2}"):
        renew(federation, home)
    assert home.tls_certificate.read_bytes() == before


@pytest.mark.parametrize(("spoken", "works"), [(PROTOCOL + 1, True), (PROTOCOL + 2, False)])
def test_a_newer_server_is_borne_one_step_and_not_two(federation, monkeypatch, spoken, works):
    monkeypatch.setattr(servers, "PROTOCOL", spoken)
    if works:
        federation.enroll("kitchen")
        return
    with pytest.raises(FedgeError, match=f"the server speaks protocol {spoken}"):
        federation.enroll("kitchen")


@pytest.mark.parametrize(
    "message",
    [
        pb.JoinResponse(federation="fedge"),
        pb.RenewResponse(server_time_s=1.0),
        rounds_pb2.CheckInRequest(round=1, attempt=1, task=secagg_pb2.Task(purpose=secagg_pb2.PURPOSE_UPDATE)),
        rounds_pb2.CheckInResponse(device_id="kitchen", bundle=b"b"),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_a_field_of_a_version_to_come_changes_nothing_that_is_known(message):
    read = type(message).FromString(message.SerializeToString() + UNKNOWN)
    read.DiscardUnknownFields()
    assert read == message


def test_what_an_older_end_does_not_say_has_a_meaning():
    assert not rounds_pb2.CheckInResponse().nothing_to_report  # something
    assert secagg_pb2.Configuration().noise_multiplier == 0.0  # no noise
    assert pb.Wish().protocol == 0  # the first protocol
    assert compatibility.FIRST == 1


def test_a_descriptor_without_the_field_for_noise_is_read_as_one_without_noise(descriptor_bytes):
    message = secagg_pb2.Descriptor.FromString(descriptor_bytes)
    message.configuration.ClearField("noise_multiplier")
    assert Descriptor.from_bytes(message.SerializeToString()).config.noise_multiplier == 0.0


@pytest.fixture
def descriptor_bytes() -> bytes:
    from fedge.secagg import SUITE, SessionConfig, Task

    config = SessionConfig(
        reals=3,
        integers=2,
        bits=32,
        cohort_max=4,
        scale=1.0,
        clip_norm=1.0,
        weight_cap=1,
        n_min=2,
        deadline=9.0,
    )
    roster = tuple((name, bytes(32)) for name in ("a", "b", "c"))
    digest = "0" * 64
    task = Task(purpose="update", period=1, release_id=digest, weights_sha256=digest, structure_sha256=digest)
    return Descriptor(SUITE, "run", 1, 1, task, config, roster, bytes(16)).to_bytes()
