"""The certificate's document: strict, canonical, and refused where its claims do not follow from its counts."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.errors import VerificationError
from fedge.routing import (
    Cautions,
    CertificateStatement,
    GridTest,
    RunningBound,
    certificate_state,
    clopper_pearson_upper,
    grid_test,
    running_upper,
    statement,
)
from fedge.routing.statement import SIZE_CAP_BYTES

NOTHING = GridTest(None, None, 0, 0, None, 3)
GOOD = RunningBound(1500, 30)
FOUND = GridTest(20, 0.8, 600, 10, clopper_pearson_upper(10, 600, 0.050000000000000044), 9)


def issue(grid=FOUND, running=GOOD, **overrides) -> CertificateStatement:
    values = {
        "release_id": "ab" * 32,
        "round": 7,
        "max_risk": 0.05,
        "tolerance": 0.03,
        "confidence": 0.95,
        "probes_are_new": False,
        "probe_rate": 0.1,
        "issued_at": 1_790_000_000,
        "expires_at": 1_790_086_400,
        "cautions": Cautions(liars=1, probe_cap=8, deducted=8, cross_checked=True),
    }
    return statement(grid=grid, running=running, **(values | overrides))


def test_a_certified_statement_says_everything_it_follows_from():
    made = issue()
    assert (made.state, made.release_statement) == ("certified", "empirical")
    assert made.running_bound == RunningBound(1500, 30).upper(1 - 0.95)
    assert (made.threshold, made.seen, made.disagreed) == (0.8, 600, 10)
    assert issue(probes_are_new=True).release_statement == "valid"


def test_only_the_grid_test_passed_is_empirical_and_no_threshold_is_none():
    assert issue(running=RunningBound(1500, 75)).state == "empirical"
    assert issue(running=RunningBound()).state == "empirical"
    assert issue(running=RunningBound()).running_bound is None
    made = issue(grid=NOTHING, probes_are_new=True)
    assert (made.state, made.release_statement, made.threshold, made.seen) == ("none", "none", None, 0)


@pytest.mark.parametrize(
    ("threshold", "bound", "state"),
    [
        (0.5, 0.05, "certified"),
        (0.5, 0.0501, "empirical"),
        (0.5, None, "empirical"),
        (None, 0.01, "none"),
        (None, None, "none"),
    ],
)
def test_the_state_follows_from_the_bounds(threshold, bound, state):
    assert certificate_state(threshold, bound, 0.05, True) == state
    assert certificate_state(threshold, bound, 0.05, False) == ("empirical" if state == "certified" else state)


def test_the_running_bound_of_nothing_is_none():
    assert running_upper(RunningBound(), 0.95) is None
    assert running_upper(RunningBound(100, 1), 0.95) == RunningBound(100, 1).upper(1 - 0.95)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=40, max_size=40),
    st.integers(0, 3000).flatmap(lambda n: st.builds(RunningBound, st.just(n), st.integers(0, n))),
    st.booleans(),
)
def test_every_statement_survives_its_bytes(seen, running, new):
    found = grid_test(seen, [n // 40 for n in seen], max_risk=0.045, delta=1 - 0.95)
    made = issue(grid=found, running=running, tolerance=0.045, probes_are_new=new)
    assert CertificateStatement.from_bytes(made.to_bytes()) == made


def test_the_bytes_are_canonical_json():
    payload = issue().to_bytes()
    document = json.loads(payload)
    assert list(document) == sorted(document)
    assert b" " not in payload
    for other in (
        json.dumps(document).encode(),
        json.dumps(document, separators=(",", ":"), sort_keys=True, indent=0).encode(),
    ):
        with pytest.raises(VerificationError, match="canonical"):
            CertificateStatement.from_bytes(other)
    doubled = payload[:-1] + b',"round":7}'
    with pytest.raises(VerificationError, match="canonical"):
        CertificateStatement.from_bytes(doubled)


def encoded(**changes) -> bytes:
    document = json.loads(issue().to_bytes()) | changes
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"null", b"\xff", b"{" * 3000, b"{}", encoded(extra=1), encoded().replace(b'"round":7,', b""), b" " * 5000],
)
def test_what_is_no_such_document_is_refused(payload):
    with pytest.raises(VerificationError):
        CertificateStatement.from_bytes(payload)


def test_the_size_is_capped_before_parsing():
    with pytest.raises(VerificationError, match=str(SIZE_CAP_BYTES)):
        CertificateStatement.from_bytes(b"{" + b" " * SIZE_CAP_BYTES)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("release_id", "AB" * 32),
        ("release_id", "ab" * 31),
        ("release_id", 7),
        ("round", 7.0),
        ("round", True),
        ("round", -1),
        ("round", 2**53),
        ("seen", "600"),
        ("max_risk", 1),
        ("max_risk", None),
        ("threshold", "0.8"),
        ("threshold", 1),
        ("state", "sure"),
        ("state", ["certified"]),
        ("release_statement", None),
        ("probe_rate", True),
    ],
)
def test_wrong_types_are_refused_by_name(field, value):
    with pytest.raises(VerificationError, match=field):
        CertificateStatement.from_bytes(encoded(**{field: value}))


def test_numbers_that_are_none_are_refused():
    for text in (b"NaN", b"Infinity", b"1e999"):
        with pytest.raises(VerificationError):
            CertificateStatement.from_bytes(encoded().replace(b'"probe_rate":0.1', b'"probe_rate":' + text))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "empirical"),
        ("state", "none"),
        ("running_bound", 0.01),
        ("running_bound", None),
        ("running_seen", 15_000),
        ("running_disagreed", 1501),
        ("running_disagreed", 29),
        ("grid_bound", 0.01),
        ("grid_bound", None),
        ("seen", 6000),
        ("disagreed", 9),
        ("disagreed", 601),
        ("disagreed", 19),
        ("seen", 2**53 - 1),
        ("threshold", None),
        ("threshold", 1.5),
        ("threshold", 0.0),
        ("release_statement", "none"),
        ("tolerance", 0.02),
        ("tolerance", 0.06),
        ("tolerance", 0.0),
        ("max_risk", 0.02),
        ("max_risk", 1.0),
        ("confidence", 0.999),
        ("confidence", 0.0),
        ("probe_rate", 1.5),
        ("probe_rate", -0.1),
        ("expires_at", 1_790_000_000),
    ],
)
def test_a_claim_that_does_not_follow_from_its_counts_is_refused(field, value):
    with pytest.raises(VerificationError):
        CertificateStatement.from_bytes(encoded(**{field: value}))


def test_a_statement_without_threshold_claims_nothing():
    made = issue(grid=NOTHING)
    for changes in ({"seen": 3}, {"grid_bound": 0.01}, {"release_statement": "valid"}, {"state": "certified"}):
        with pytest.raises(VerificationError):
            replace(made, **changes).check()
    made.check()


def test_a_running_bound_without_probes_is_refused():
    with pytest.raises(VerificationError, match="running_bound"):
        replace(issue(running=RunningBound()), running_bound=0.01).check()


def test_a_grid_test_beyond_its_tolerance_cannot_be_stated():
    with pytest.raises(VerificationError, match="tolerance"):
        issue(tolerance=0.02)


def test_bounds_of_another_machine_differ_in_the_last_digits_only():
    made = issue()
    replace(made, running_bound=made.running_bound * (1 + 1e-12), grid_bound=made.grid_bound * (1 - 1e-12)).check()
    with pytest.raises(VerificationError):
        replace(made, running_bound=made.running_bound * (1 - 1e-6)).check()
    with pytest.raises(VerificationError):
        replace(made, grid_bound=made.grid_bound * (1 - 1e-6)).check()
