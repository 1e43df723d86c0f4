"""Probe counts of secure sums held against central's own totals, over all sessions so far.

Central counts a probe when it answers, a device reports it later: after a session that it missed, or in parts, where it
has more than a period's cap. So sums are compared cumulatively. Every honest report was counted at central before, hence
no honest fleet reports more agreements than central gave (dropped-out devices and devices with stricter rules report
fewer); a sum beyond is evidence of a liar. It is cut, never discarded: a liar must not be able to take a cohort's counts
away.
"""

from dataclasses import dataclass, replace

from fedge.errors import InputError


@dataclass(frozen=True, slots=True)
class ProbeTotals:
    """Probes that central ``answered``; of those that the certified threshold would have kept local, how many ``agreed`` and
    how many ``disagreed`` with its answer. Adds up with `+`. Raises InputError for numbers that cannot be.
    """

    answered: int = 0
    agreed: int = 0
    disagreed: int = 0

    def __post_init__(self) -> None:
        if min(self.answered, self.agreed, self.disagreed) < 0:
            raise InputError(f"probe totals are counts, not {self}")

    def __add__(self, other: "ProbeTotals") -> "ProbeTotals":
        return ProbeTotals(self.answered + other.answered, self.agreed + other.agreed, self.disagreed + other.disagreed)


@dataclass(frozen=True, slots=True)
class CheckedCounts:
    """What of a round's sums may be used: the running pair, and how many new probes are more than central answered."""

    agreed: int
    disagreed: int
    excess: int
    evidence: tuple[str, ...]
    """What no honest fleet reports, as sentences; empty where nothing speaks of a liar."""


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """The state over all sessions.

    ``given`` is what central gave out, ``reported`` what the sums said as far as it can be believed, ``used`` what went
    into the running bound (their ``answered`` is 0). ``left_over``: new probes that central answered and that no sum has
    carried yet.
    """

    given: ProbeTotals = ProbeTotals()
    reported: ProbeTotals = ProbeTotals()
    used: ProbeTotals = ProbeTotals()
    left_over: int = 0

    def defer(self, reported: ProbeTotals) -> "CrossCheck":
        """Note sums that central gave no total for: they count once later totals confirm them."""
        total = self.reported + replace(reported, answered=0)
        return replace(self, reported=total, left_over=self.left_over)

    def apply(self, reported: ProbeTotals, totals: ProbeTotals, *, slack: int) -> tuple["CrossCheck", CheckedCounts]:
        """Hold one round's sums (``answered``: new probes) against central's totals for the same rosters.

        ``slack``: by how much honest devices' numbers may differ, since their processors compute a model a little
        differently; it decides on evidence and on how many disagreements beyond central's are believed, never on agreements.
        """
        given = self.given + replace(totals, answered=0)
        evidence = []

        agreed = self.reported.agreed + reported.agreed
        if agreed > given.agreed + slack:
            evidence.append(f"the running pair has {agreed - given.agreed} agreements more than central counted")
        agreed = min(agreed, given.agreed)
        used_agreed = max(self.used.agreed, agreed)
        if reported.agreed < totals.agreed // 2 - slack:
            evidence.append(f"the running pair has only {reported.agreed} agreements, central counted {totals.agreed}")
            used_agreed = min(self.used.agreed + totals.agreed, given.agreed)

        wrong = self.reported.disagreed + reported.disagreed
        if wrong > given.disagreed + slack:
            evidence.append(f"the running pair has {wrong - given.disagreed} disagreements more than central counted")
        wrong = min(wrong, given.disagreed + slack)
        used_wrong = max(self.used.disagreed, wrong, given.disagreed)

        room = totals.answered + self.left_over
        excess = max(0, reported.answered - room)
        if excess > slack:
            evidence.append(f"{reported.answered} new probes are {excess} more than central answered")
        # What one session left over may come with a later one; of older left-overs less and less is believed.
        left_over = min(max(0, room - reported.answered), max(totals.answered, self.left_over // 2))

        checked = CheckedCounts(used_agreed - self.used.agreed, used_wrong - self.used.disagreed, excess, tuple(evidence))
        after = CrossCheck(given, ProbeTotals(0, agreed, wrong), ProbeTotals(0, used_agreed, used_wrong), left_over)
        return after, checked
