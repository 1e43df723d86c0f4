"""The outcome of one played attack, as `fedge bench attacks` prints it."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from fedge.errors import InputError

Measure = Literal["leaked", "damage"]


@dataclass(frozen=True, slots=True)
class AttackResult:
    """State whether one attack was held, and how much it still leaked or damaged.

    ``value`` is what leaked (`measure` "leaked": bits, a share of examples, a cosine) or what broke (`measure` "damage":
    accuracy points, false certificates, refused calls), in ``unit``. ``note`` says in one sentence what was tried and seen.
    Raises InputError where ``value`` is not finite, since JSON has no word for it.
    """

    attack: str
    held: bool
    measure: Measure
    value: float
    unit: str
    note: str

    def __post_init__(self) -> None:
        """Refuse a value that JSON cannot carry."""
        if not math.isfinite(self.value):
            raise InputError(f"attack {self.attack}: the {self.measure} value is {self.value}; give a finite number")

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the report's ``results``, with the value under the name of its measure."""
        return {
            "attack": self.attack,
            "held": self.held,
            self.measure: self.value,
            "unit": self.unit,
            "note": self.note,
        }
