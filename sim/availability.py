"""Which devices leave a session, and when: a pure function of the seed, so that a run without secure aggregation, a resumed
run and a repeated one lose the same devices at the same moments.
"""

from dataclasses import dataclass

from fedge.randomness import generator

# The requests of one session that a device can be gone for, in order. Checking in comes first: whoever is gone there
# never was in the cohort.
STAGES = ("query.roster", "query.shares", "query.consistency", "query.unmask")


@dataclass(frozen=True, slots=True)
class Dropouts:
    """Each device leaves each session with ``probability`` at a stage drawn uniformly, and is back for the next one."""

    probability: float
    seed: bytes

    def absent(self, node_id: int, message_type: str, group_id: str) -> bool:
        """True where the device has left before this request of session ``group_id`` reached it."""
        if self.probability <= 0.0 or message_type not in STAGES:
            return False
        draw = generator(self.seed, "dropout", group_id, node_id)
        leaves = draw.random() < self.probability
        stage = int(draw.integers(len(STAGES)))
        return bool(leaves and STAGES.index(message_type) >= stage)
