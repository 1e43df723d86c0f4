"""What a policy did in a round, for the summary: how often its rules were broken, and what its limits kept from central.

Measured against central's labels, on the test queries that no one trained on and on the fleet's own stream. A stream breaks
rules in one way more: what a spent budget or rate keeps from central is answered on the device, whatever the rules say.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fedge.routing import RULED, AskingLimits, Policy, Reason, Violations
from sim.fleet import Asked

_RULED = {str(reason) for reason in RULED}


def policy_entry(
    policy: Policy, *, test: Violations, asked: Sequence[Asked], central: Sequence[str]
) -> dict[str, Any] | None:
    """The round's ``policy``, None where the policy neither pins nor limits. ``central``: its label of each query asked."""
    if not policy.pins and policy.limits == AskingLimits():
        return None
    answers = [one.answer for one in asked]
    stream = Violations.count(
        policy,
        ((label, answer.answered_by, answer.reason in _RULED) for label, answer in zip(central, answers, strict=True)),
    )
    reasons = Counter(answer.reason for answer in answers)
    kept = {name: reasons[name] for name in (str(Reason.OVER_BUDGET), str(Reason.RATE_LIMITED), str(Reason.POLICY_HUMAN))}
    return {
        **_counted(test),
        "violation_rate_unconstrained": None,
        "overreach_unconstrained": None,
        "stream": {**_counted(stream), "violation_rate_unconstrained": None, **kept},
    }


def _counted(violations: Violations) -> dict[str, Any]:
    return {
        "violation_rate": violations.rate,
        "pinned": violations.pinned,
        "violations": violations.violations,
        "overreach": violations.overreach,
        "by_rule": {
            str(rule): {"queries": counted.queries, "violations": counted.violations}
            for rule, counted in sorted(violations.by_rule.items())
        },
    }
