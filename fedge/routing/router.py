"""Who answers a query: device, central or a person. One pure function from what is known before answering to a route.

Order of the questions, first match wins: a policy that keeps the query in the house; a person; what the caller forces; a
policy that always asks; the probe's coin; then the model's own answer (out of scope, certified threshold, price of an
error). Whoever should have asked central and could not (offline, over budget, too often) answers on the device, marked
``degraded``.
Never calls anyone, never reads a clock, never draws the coin.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from fedge.routing.policy import Policy, Rule

AnsweredBy = Literal["device", "central", "human"]
Mode = Literal["auto", "local-only", "central"]


class Reason(StrEnum):
    """Why a query went where it went."""

    CONFIDENT = "confident"
    BELOW_THRESHOLD = "below_threshold"
    NO_CERTIFICATE = "no_certificate"
    OUT_OF_SCOPE = "out_of_scope"
    ERROR_PRICE = "error_price"
    PROBE = "probe"
    FORCED_LOCAL = "forced_local"
    FORCED_CENTRAL = "forced_central"
    POLICY_NEVER_ESCALATE = "policy_never_escalate"
    POLICY_ALWAYS_CENTRAL = "policy_always_central"
    POLICY_HUMAN = "policy_human"
    OFFLINE = "offline"
    OVER_BUDGET = "over_budget"
    RATE_LIMITED = "rate_limited"


RULED = frozenset({Reason.POLICY_NEVER_ESCALATE, Reason.POLICY_ALWAYS_CENTRAL, Reason.POLICY_HUMAN})
"""Reasons of queries that a rule decided about."""


@dataclass(frozen=True, slots=True)
class Route:
    """The decision. ``degraded``: the device answers what it would rather have asked. ``probe``: central's answer is for
    calibration only. ``counted``: the query belongs to what the certificate speaks of; a probe that is counted would have
    stayed local, and its agreement is one pair of the running statement.
    """

    answered_by: AnsweredBy
    reason: Reason
    degraded: bool = False
    probe: bool = False
    counted: bool = False


def route(
    *,
    label: str,
    confidence: float,
    threshold: float | None,
    policy: Policy,
    topic: str | None = None,
    mode: Mode = "auto",
    is_probe: bool,
    online: bool,
    central_price_usd: float,
    oos_label: str | None = None,
    within_budget: bool = True,
    within_rate: bool = True,
) -> Route:
    """Routes one query by the device's predicted ``label`` and its ``confidence``.

    ``threshold`` is the certified one of the live release (None: everything escalates), ``oos_label`` the workload's
    out-of-scope label, which is never answered locally, since a wrong "I do not know that" is an error too.
    """
    chow = policy.error_dearer_than_asking(label, confidence, central_price_usd)
    own = _own_reason(confidence, threshold, out_of_scope=label == oos_label, error_dearer=chow)
    confident = own is Reason.CONFIDENT
    reachable = online and within_budget and within_rate
    rule = policy.rule(label, topic)
    if rule is Rule.NEVER_ESCALATE:
        return Route("device", Reason.POLICY_NEVER_ESCALATE, degraded=not confident)
    if rule is Rule.HUMAN:
        return Route("human", Reason.POLICY_HUMAN)
    if mode == "local-only":
        return Route("device", Reason.FORCED_LOCAL, degraded=not confident or rule is Rule.ALWAYS_CENTRAL)
    if mode == "auto" and rule is None:
        if is_probe and reachable:
            return Route("central", Reason.PROBE, probe=True, counted=confident)
        if confident:
            return Route("device", Reason.CONFIDENT, counted=reachable)
    asking = Reason.FORCED_CENTRAL if mode == "central" else Reason.POLICY_ALWAYS_CENTRAL if rule is not None else own
    unreachable = Reason.OFFLINE if not online else Reason.OVER_BUDGET if not within_budget else Reason.RATE_LIMITED
    return Route("central", asking) if reachable else Route("device", unreachable, degraded=True)


def local_candidate(
    *,
    label: str,
    confidence: float,
    policy: Policy,
    topic: str | None = None,
    central_price_usd: float,
    oos_label: str | None = None,
) -> bool:
    """Whether some threshold would answer this query locally: the probes to count in the grid test's histogram."""
    chow = policy.error_dearer_than_asking(label, confidence, central_price_usd)
    own = _own_reason(confidence, 0.0, out_of_scope=label == oos_label, error_dearer=chow)
    return own is Reason.CONFIDENT and policy.rule(label, topic) is None


def _own_reason(confidence: float, threshold: float | None, *, out_of_scope: bool, error_dearer: bool) -> Reason:
    """What the model's own answer gives: CONFIDENT, or why central should be asked."""
    if threshold is None:
        return Reason.NO_CERTIFICATE
    if out_of_scope:
        return Reason.OUT_OF_SCOPE
    if not confidence >= threshold:  # also where the confidence is not a number
        return Reason.BELOW_THRESHOLD
    return Reason.ERROR_PRICE if error_dearer else Reason.CONFIDENT
