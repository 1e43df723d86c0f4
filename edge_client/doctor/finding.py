"""What a check says: ok, warn or fail, one line, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's. ``remedy`` is empty where nothing is to be done."""

    check: str
    outcome: Outcome
    says: str
    remedy: str = ""


def ok(check: str, says: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", says)


def warn(check: str, says: str, remedy: str) -> Finding:
    """The device works, and something should be looked at."""
    return Finding(check, "warn", says, remedy)


def fail(check: str, says: str, remedy: str) -> Finding:
    """The device does not work like this."""
    return Finding(check, "fail", says, remedy)
