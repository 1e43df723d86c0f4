"""Local or central: confidence, probes, policy, the certificate and the decision. Pure functions and values."""

from fedge.routing.certificate import GridTest, clopper_pearson_upper, grid_test, probes_needed
from fedge.routing.confidence import TEMPERATURE_GRID, ConfidenceKind, best_temperature, confidence, nll_sums, softmax
from fedge.routing.constraint import RuleCount, Violations, example_weights, violates
from fedge.routing.cross_check import CheckedCounts, CrossCheck, ProbeTotals
from fedge.routing.deduction import Deduction, PooledNoise, conservative, conservative_pair
from fedge.routing.grid import DEFAULT_GRID, bin_index, coarse_grid, from_above, histogram
from fedge.routing.limits import AskingLimits, TokenBucket
from fedge.routing.policy import Policy, Rule
from fedge.routing.probes import is_probe, probe_rate, probe_weight
from fedge.routing.router import RULED, AnsweredBy, Mode, Reason, Route, local_candidate, route
from fedge.routing.running import RunningBound
from fedge.routing.statement import Cautions, CertificateStatement, certificate_state, running_upper, statement
from fedge.routing.tolerance import effective_risk

__all__ = [
    "DEFAULT_GRID",
    "RULED",
    "TEMPERATURE_GRID",
    "AnsweredBy",
    "AskingLimits",
    "Cautions",
    "CertificateStatement",
    "CheckedCounts",
    "ConfidenceKind",
    "CrossCheck",
    "Deduction",
    "GridTest",
    "Mode",
    "Policy",
    "PooledNoise",
    "ProbeTotals",
    "Reason",
    "Route",
    "Rule",
    "RuleCount",
    "RunningBound",
    "TokenBucket",
    "Violations",
    "best_temperature",
    "bin_index",
    "certificate_state",
    "clopper_pearson_upper",
    "coarse_grid",
    "confidence",
    "conservative",
    "conservative_pair",
    "effective_risk",
    "example_weights",
    "from_above",
    "grid_test",
    "histogram",
    "is_probe",
    "local_candidate",
    "nll_sums",
    "probe_rate",
    "probe_weight",
    "probes_needed",
    "route",
    "running_upper",
    "softmax",
    "statement",
    "violates",
]
