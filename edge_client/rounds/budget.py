"""What a device lets secure sums have of it, whatever the aggregator signs: its own bounds, renewed by time alone."""

from dataclasses import dataclass

from fedge.calendar import Calendar
from fedge.errors import InputError
from fedge.routing.probe_noise import LEAST_EPSILON, MOST_EPSILON
from fedge.secagg import RefusedError, Task

LATE_S = 60.0
"""How long after its end a period is accepted, for requests on their way. What leaves then counts in the next one, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContributionBudget:
    """One device's bounds. Raises InputError for bounds that cannot be."""

    min_period_s: float = 3600.0
    """The shortest period of a calendar in which it takes part: it contributes once a period to each purpose."""
    max_rescores: int = 8
    """In how many histograms one probe may stand."""
    max_probe_epsilon: float = 4.0
    """The largest loss of privacy for one probe that the noise of one histogram may allow."""
    range_proofs: bool = True
    """Whether it proves that its counts lie in their ranges, where a task asks for it."""
    max_probe_store: int = 4096
    """The most stored probes that such a proof may be about: it grows with them."""

    def __post_init__(self) -> None:
        if self.max_rescores < 1:
            raise InputError(f"max_rescores is {self.max_rescores}: a probe has to be scored at least once")
        if self.max_probe_store < 1:
            raise InputError(f"max_probe_store is {self.max_probe_store}: a proof is about at least 1 probe")
        if not LEAST_EPSILON <= self.max_probe_epsilon <= MOST_EPSILON:
            raise InputError(
                f"max_probe_epsilon is {self.max_probe_epsilon:g}: choose {LEAST_EPSILON:g} to {MOST_EPSILON:g}"
            )

    def check(self, task: Task, calendar: Calendar, *, now: float) -> None:
        """Raise RefusedError unless ``task`` is one for the calendar's current period and within these bounds."""
        if calendar.period_s < self.min_period_s:
            raise RefusedError(
                f"the federation's periods last {calendar.period_s:g} s, this device takes part from "
                f"{self.min_period_s:g} s on: lower min_period_s in device.toml only for a demonstration"
            )
        current, late = calendar.period_at(now), calendar.period_at(now - min(LATE_S, calendar.period_s / 2))
        if not late <= task.period <= current:
            raise RefusedError(f"the session is about period {task.period}, and by this device's clock it is {current}")
        if task.probe_epsilon > self.max_probe_epsilon:
            raise RefusedError(
                f"the session's noise allows an epsilon of {task.probe_epsilon:g}, this device at most "
                f"{self.max_probe_epsilon:g}"
            )
        if task.range_proofs and not self.range_proofs:
            raise RefusedError("the session asks for range proofs: set range_proofs in device.toml to take part")
        if task.probe_store > self.max_probe_store:
            raise RefusedError(
                f"the session's range proofs are about {task.probe_store} stored probes, this device's about at most "
                f"{self.max_probe_store}: raise max_probe_store in device.toml to take part"
            )


DEFAULT_BUDGET = ContributionBudget()
