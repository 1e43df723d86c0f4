"""What a device may say of itself: everything that it says comes back as it was, and what cannot be is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError
from fedge.presence import MAX_QUEUE, SUPPLIES, Presence
from protos.fedge.fleet.v1 import presence_pb2 as pb

RELEASE = "ab" * 32
SAID = Presence(release=RELEASE, supply="battery", sensor="ina219", profile="raspberry-pi-4", queue=3, fedge="0.1.0")
GOOD = SAID.to_proto()

releases = st.one_of(st.just(""), st.text("0123456789abcdef", min_size=64, max_size=64))
presences = st.builds(
    lambda release, on_trial, **rest: Presence(release=release, on_trial=on_trial and bool(release), **rest),
    release=releases,
    on_trial=st.booleans(),
    given_up=releases,
    supply=st.sampled_from(SUPPLIES),
    sensor=st.text("abcxyz019_-", max_size=32),
    profile=st.text("abcXYZ019._-", max_size=64),
    queue=st.integers(0, MAX_QUEUE),
    fedge=st.text("abc019.+!_-", max_size=32),
)


@given(presences)
def test_what_is_said_is_what_is_read(presence):
    data = presence.to_proto().SerializeToString()
    assert Presence.from_proto(pb.ReportRequest.FromString(data)) == presence


def test_every_kind_of_supply_has_a_number_of_its_own_on_the_wire():
    numbers = {Presence(supply=supply).to_proto().energy_source for supply in SUPPLIES}
    assert numbers == set(pb.EnergySource.values()) - {pb.ENERGY_SOURCE_UNSPECIFIED}


def test_a_message_has_no_room_for_a_device_a_query_or_a_count_of_local_answers():
    assert [field.name for field in pb.ReportRequest.DESCRIPTOR.fields] == [
        "release_id",
        "release_on_trial",
        "given_up_release_id",
        "energy_source",
        "energy_sensor",
        "profile",
        "queue_questions",
        "fedge_version",
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"release_id": "ab" * 31}, "the release is"),
        ({"release_id": "AB" * 32}, "the release is"),
        ({"release_id": RELEASE + "\n"}, "the release is"),
        ({"release_id": "zz" * 32}, "the release is"),
        ({"given_up_release_id": "nothing"}, "the given-up release is"),
        ({"release_id": "", "release_on_trial": True}, "on trial, and none is named"),
        ({"energy_source": 0}, "energy source 0 is not known"),
        ({"energy_source": 4}, "energy source 4 is not known"),
        ({"energy_source": -1}, "energy source -1 is not known"),
        ({"energy_sensor": "a" * 33}, "the sensor is"),
        ({"energy_sensor": "ina219\x00"}, "the sensor is"),
        ({"profile": "<script>"}, "the profile is"),
        ({"profile": "p" * 65}, "the profile is"),
        ({"queue_questions": MAX_QUEUE + 1}, f"{MAX_QUEUE + 1} questions wait"),
        ({"queue_questions": 2**32 - 1}, "questions wait"),
        ({"fedge_version": "0.1.0 beta"}, "the version of fedge is"),
        ({"fedge_version": "\u0660.\u0661"}, "the version of fedge is"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields, said):
    message = pb.ReportRequest()
    message.CopyFrom(GOOD)
    for name, value in fields.items():
        setattr(message, name, value)
    with pytest.raises(InputError, match=said) as refused:
        Presence.from_proto(message)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 200


def test_a_field_of_a_version_to_come_changes_nothing():
    data = GOOD.SerializeToString()
    assert Presence.from_proto(pb.ReportRequest.FromString(data + b"\xfa\x3e\x05later")) == Presence.from_proto(GOOD)


def test_a_report_is_small():
    longest = Presence(
        release=RELEASE, on_trial=True, given_up=RELEASE, supply="battery", sensor="s" * 32, profile="p" * 64,
        queue=MAX_QUEUE, fedge="1" * 32,
    )  # fmt: skip
    assert GOOD.ByteSize() <= 102 and longest.to_proto().ByteSize() <= 280
