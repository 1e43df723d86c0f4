"""What devices are told when their probes show drift, over whole rounds with real secure sums and signed documents."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_client.releases.manager import Active
from fedge.errors import VerificationError
from fedge.release import CertificateDocument
from fedge.routing import CertificateStatement, RunningBound, effective_risk
from fedge.routing.cross_check import ProbeTotals
from fedge.secagg.session import Descriptor


@pytest.fixture(scope="module")
def parts() -> ModuleType:
    """The small world of tiny devices, whose coarse grid is (0.5, 0.9)."""
    path = Path(__file__).parent / "test_session.py"
    spec = importlib.util.spec_from_file_location("rounds_of_tiny_devices", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Central:
    """What central counted: as many probes as the devices report."""

    def __init__(self, world: Any) -> None:
        self.world = world

    def roster_totals(self, descriptor: bytes, signature: bytes) -> ProbeTotals:
        names = {name for name, _ in Descriptor.from_bytes(descriptor).roster}
        counts = [device.lies for device in self.world.devices.values() if device.name in names]
        seen, wrong = (sum(one[name] for one in counts) for name in ("running_seen", "running_disagreed"))
        return ProbeTotals(sum(int(one["new_seen"].sum()) for one in counts), seen - wrong, wrong)


@pytest.fixture
def world(parts: ModuleType, tmp_path: Path) -> Any:
    """A fleet in which nobody lies, cross-checked with central."""
    made = parts.World(tmp_path)
    made.totals, made.liars = Central(made), 0
    return made


def report(world: Any, *, seen: tuple[int, int], wrong: tuple[int, int] = (0, 0), pair: tuple[int, int]) -> None:
    """What each of the eight devices counts next: probes by coarse bin since ever, what is new of them, the running pair."""
    counts = {"agreed": np.array(seen) - wrong, "disagreed": np.array(wrong)}
    before_seen, before_wrong = getattr(world, "told", ((0, 0), (0, 0)))
    new, new_wrong = np.subtract(seen, before_seen), np.subtract(wrong, before_wrong)
    world.told = seen, wrong
    for name, (low, high) in (("new_seen", new), ("new_disagreed", new_wrong)):
        counts[name] = np.array([low, 0, 0, 0, high])
    for device in world.devices.values():
        device.lies = {**counts, "running_seen": pair[0], "running_disagreed": pair[1]}


def told(parts: ModuleType, world: Any) -> CertificateStatement:
    """What a device reads in the active release's document, signature and binding checked."""
    active, _, document = world.published()
    payload = CertificateDocument.from_bytes(document).verify(parts.RELEASE_KEY.public_key(), active)
    return CertificateStatement.from_bytes(payload)


def test_drift_in_the_summed_probes_tightens_the_threshold_and_takes_the_certificate_back(parts: ModuleType, world: Any):
    seen: list[tuple[float | None, str]] = []

    def play(**counts: Any) -> CertificateStatement:
        report(world, **counts)
        world.round()
        statement = told(parts, world)
        seen.append((statement.threshold, statement.state))
        assert world.state.threshold == statement.threshold and world.state.certificate_bound == statement.running_bound
        return statement

    play(seen=(40, 60), pair=(0, 0))
    good = play(seen=(80, 120), pair=(100, 0))
    drifted = play(seen=(120, 180), wrong=(20, 5), pair=(100, 25))
    tight = play(seen=(130, 190), wrong=(22, 6), pair=(60, 0))
    again = play(seen=(130, 1000), wrong=(22, 6), pair=(0, 0))
    assert seen == [
        (0.6, "empirical"),  # passed its test; nothing was answered locally yet
        (0.6, "certified"),
        (0.9, "empirical"),  # the lower bin disagrees now, and the bound over the whole run is above what is permitted
        (None, "none"),  # against the tolerance that this past leaves, no threshold passes: everything escalates
        (0.9, "empirical"),  # much new agreement at the top: answers stay local again, but nothing is certified
    ]
    assert good.running_bound < 0.05 < drifted.running_bound
    assert drifted.tolerance == 0.05 and tight.tolerance == 0.0125  # each judged by the past before it
    assert tight.tolerance == effective_risk(RunningBound(1600, 200), max_risk=0.05, delta=0.05)
    assert again.running_disagreed == 200 and tight.probe_rate == 0.30


def test_a_certificate_that_no_round_can_renew_ends_by_itself(parts: ModuleType, world: Any):
    report(world, seen=(40, 60), pair=(100, 0))
    world.round()
    statement, before = told(parts, world), world.published()
    world.away = {(None, None, None)}  # no device answers any more
    for _ in range(3):
        assert world.round().outcome == "failed"
    assert world.published() == before and told(parts, world).expires_at == statement.expires_at
    active = Active(None, statement, statement.round)
    assert active.threshold(statement.expires_at - 1) == statement.threshold == 0.6
    assert active.threshold(statement.expires_at) is None


def test_the_document_is_bound_to_the_manifest_and_to_no_other(parts: ModuleType, world: Any):
    first = world.registry.active()
    report(world, seen=(40, 60), pair=(0, 0))
    world.round()
    active, _, document = world.published()
    assert active == world.registry.release(active).manifest.release_id != first
    with pytest.raises(VerificationError, match="is for release"):
        CertificateDocument.from_bytes(document).verify(parts.RELEASE_KEY.public_key(), first)
    signed = CertificateDocument.from_bytes(document)
    moved = CertificateDocument(first, signed.statement, signed.signature)
    with pytest.raises(VerificationError, match="does not verify"):
        moved.verify(parts.RELEASE_KEY.public_key(), first)
