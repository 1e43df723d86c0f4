"""The outcome of one attack against the present code."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AttackResult:
    """One attack, whether the system held, and the number that says how far it did not.

    ``measure`` names the kind of ``value``: what the attacker learned ("leaked") or what it broke ("damage"), in ``unit``.
    """

    attack: str
    held: bool
    measure: Literal["leaked", "damage"]
    value: float
    unit: str
    note: str
