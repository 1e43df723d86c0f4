"""Rounds and attempts that no federation reaches are refused before any store sees them."""

import pytest

from fedge.secagg.config import SessionConfig
from fedge.secagg.errors import MessageError
from fedge.secagg.session import ATTEMPT_LIMIT, ROUND_LIMIT, Descriptor, Task

TASK = Task(purpose="usage", period=1, release_id="1" * 64, weights_sha256="2" * 64, structure_sha256="3" * 64)
CONFIG = SessionConfig(
    reals=0, integers=3, bits=32, cohort_max=4, scale=1.0, clip_norm=1.0, weight_cap=1, n_min=2, deadline=2000.0
)


def descriptor(round_number: int, attempt: int) -> bytes:
    roster = tuple((f"device-{number}", bytes(32)) for number in range(3))
    return Descriptor("cohort-secagg-v2", "fleet", round_number, attempt, TASK, CONFIG, roster, bytes(16)).to_bytes()


def test_the_largest_round_and_attempt_are_read():
    found = Descriptor.from_bytes(descriptor(ROUND_LIMIT - 1, ATTEMPT_LIMIT - 1))
    assert (found.round, found.attempt) == (2**31 - 1, 2**16 - 1)


@pytest.mark.parametrize(
    ("round_number", "attempt"), [(ROUND_LIMIT, 1), (2**63, 1), (2**64 - 1, 1), (1, ATTEMPT_LIMIT), (1, 2**32 - 1)]
)
def test_larger_ones_are_no_message(round_number, attempt):
    with pytest.raises(MessageError, match="beyond every federation's count"):
        Descriptor.from_bytes(descriptor(round_number, attempt))
