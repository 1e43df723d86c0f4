"""What a device says of itself to its fleet's operator: made on the device and read on the server by the same rules.

It names a release, a supply, a sensor, a profile, a version, and how many questions wait for central. It has no room for a
query or an answer, nor for how many queries stayed on the device. Which device it is, the client certificate says.
"""

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from fedge.errors import InputError
from protos.fedge.fleet.v1 import presence_pb2 as pb

Supply = Literal["unknown", "mains", "battery"]
"""What a device runs on; "unknown" where its kernel names no supply."""
SUPPLIES: tuple[Supply, ...] = get_args(Supply)
MAX_QUEUE = 1_000_000
REPORT_APART_S = 3.0
"""A server takes no two reports of one device closer together than that."""

_WIRE = {
    "unknown": pb.ENERGY_SOURCE_UNKNOWN,
    "mains": pb.ENERGY_SOURCE_MAINS,
    "battery": pb.ENERGY_SOURCE_BATTERY,
}
_SUPPLY = {number: name for name, number in _WIRE.items()}
_RELEASE = re.compile(r"(?:[0-9a-f]{64})?")
_SENSOR = re.compile(r"[a-z0-9_-]{0,32}")
_PROFILE = re.compile(r"[A-Za-z0-9._-]{0,64}")
_VERSION = re.compile(r"[A-Za-z0-9.+!_-]{0,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """One look at a device. Empty text for what there is not. Raises InputError for what cannot be.

    ``on_trial``: the release is in its health window. ``given_up``: the newest release that the device takes no more.
    ``sensor``: what its figures of energy come from; without one, from the ``profile``. ``queue``: questions for central
    that wait on it.
    """

    release: str = ""
    on_trial: bool = False
    given_up: str = ""
    supply: Supply = "unknown"
    sensor: str = ""
    profile: str = ""
    queue: int = 0
    fedge: str = ""

    def __post_init__(self) -> None:
        for name, value, syntax in (
            ("release", self.release, _RELEASE),
            ("given-up release", self.given_up, _RELEASE),
            ("sensor", self.sensor, _SENSOR),
            ("profile", self.profile, _PROFILE),
            ("version of fedge", self.fedge, _VERSION),
        ):
            if not syntax.fullmatch(value):
                raise InputError(f"the {name} is {value[:40]!a}: it must look like {syntax.pattern}")
        if self.on_trial and not self.release:
            raise InputError("a release is on trial, and none is named: name it")
        if not 0 <= self.queue <= MAX_QUEUE:
            raise InputError(f"{self.queue} questions wait: a device keeps 0 to {MAX_QUEUE}")

    def to_proto(self) -> pb.ReportRequest:
        """The message."""
        return pb.ReportRequest(
            release_id=self.release,
            release_on_trial=self.on_trial,
            given_up_release_id=self.given_up,
            energy_source=_WIRE[self.supply],
            energy_sensor=self.sensor,
            profile=self.profile,
            queue_questions=self.queue,
            fedge_version=self.fedge,
        )

    @classmethod
    def from_proto(cls, message: pb.ReportRequest) -> "Presence":
        """What a message says. Raises InputError; fields that are not known here are left out."""
        supply = _SUPPLY.get(message.energy_source)
        if supply is None:
            raise InputError(f"energy source {message.energy_source} is not known here: say one of 1 to {len(SUPPLIES)}")
        return cls(
            release=message.release_id,
            on_trial=message.release_on_trial,
            given_up=message.given_up_release_id,
            supply=cast(Supply, supply),
            sensor=message.energy_sensor,
            profile=message.profile,
            queue=message.queue_questions,
            fedge=message.fedge_version,
        )
