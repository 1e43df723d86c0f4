"""The fleet as the server knows it: enrolled devices, revocation, the aggregator's keys, and the registry of releases."""

from aggregator.fleet.enrolment import EnrolledDevice, Enrolment
from aggregator.fleet.keys import DEFAULT_CA_NAME, AggregatorKeys
from aggregator.fleet.registry import Move, RegisteredRelease, ReleaseRegistry

__all__ = [
    "DEFAULT_CA_NAME",
    "AggregatorKeys",
    "EnrolledDevice",
    "Enrolment",
    "Move",
    "RegisteredRelease",
    "ReleaseRegistry",
]
