"""A share of the devices runs a release first; what becomes of it follows from sums, and nobody sees who reported what."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from aggregator.rounds.canary import CanaryPolicy, verdict
from aggregator.rounds.report import store_round
from aggregator.rounds.round import RoundRunner
from aggregator.rounds.state import CanaryWatch, FederationState
from aggregator.store import Database
from aggregator.store.serializers import round_document
from edge_client.releases.health_window import ReleaseWatch, WatchRules
from edge_client.releases.manager import ReleaseManager
from edge_client.releases.storage import SharedShelf
from fedge.errors import VerificationError
from fedge.layouts import HealthLayout, HealthSums
from fedge.release import ChannelPointer, in_canary
from fedge.secagg import SessionAborted, Task

POLICY = CanaryPolicy(share=0.25, health_s=1800.0)
IDS = [f"{number:064x}" for number in range(8)]


@pytest.fixture
def world(tmp_path, rounds_parts):
    """Eight tiny devices whose rounds try releases on a canary; ``healthy`` is what each reports, by its number."""

    class Reporting(rounds_parts.TinyDevice):
        healthy: ClassVar[dict[int, tuple[int, int, int, int]]] = {}
        asked: ClassVar[list[str]] = []

        def contribution(self):
            task = Task.from_message(self.request.task)
            if task.purpose != "health":
                return super().contribution()
            self.asked.append(task.canary_release_id)
            if self.number not in self.healthy:
                return None
            taken, rolled_back, answered, errors = self.healthy[self.number]
            return np.zeros(0), HealthLayout().encode(taken=taken, rolled_back=rolled_back, answered=answered, errors=errors)

    class World(rounds_parts.World):
        def round(self, **kwargs):
            inner = RoundRunner.run

            def run(runner, state):
                return inner(replace(runner, settings=replace(runner.settings, canary=POLICY)), state)

            rounds_parts.RoundRunner = type("Runner", (RoundRunner,), {"run": run, "__slots__": ()})
            try:
                return super().round(**kwargs)
            finally:
                rounds_parts.RoundRunner = RoundRunner

        def report(self, **by_number):
            Reporting.healthy = {int(name[1:]): counts for name, counts in by_number.items()}

    honest, rounds_parts.TinyDevice = rounds_parts.TinyDevice, Reporting
    Reporting.healthy, Reporting.asked = {}, []
    yield World(tmp_path)
    rounds_parts.TinyDevice = honest


def states(world) -> list[str]:
    return [release.state for release in world.registry.releases()]


def test_a_release_goes_to_the_canary_first_and_to_all_when_the_sums_are_good(world):
    first = world.registry.active()
    world.round()
    candidate = world.state.release_id
    assert world.registry.active() == first
    assert world.registry.canary().release_id == candidate
    assert world.registry.canary().share == POLICY.share
    world.clock.now += POLICY.health_s
    world.report(d1=(1, 0, 500, 2), d4=(1, 0, 300, 0))
    report = world.round()
    assert "canary: 2 devices took it, 0 gave it up, 2 of 800 queries failed" in report.notes
    moves = [move for move in world.registry.history() if move.release_id == candidate]
    assert moves[-1].state == "active" and moves[-1].reason in report.notes
    assert report.outcome == "finished"  # and the same round trained the next one
    assert world.registry.canary().release_id == world.state.release_id != candidate


def test_the_record_of_a_round_says_who_stood_on_each_roster(world, tmp_path):
    report = world.round()
    with Database.open(f"sqlite:///{tmp_path}/record.sqlite") as database:
        store_round(database, world.state, report, finished=1.0)
        found = round_document(database, report.round_number)["attempts"]
    assert len(found) == len(report.sessions) > 0
    for attempt in found:
        assert len(attempt["devices"]) == attempt["cohort"] and attempt["devices"] == sorted(set(attempt["devices"]))


def test_rounds_wait_while_a_canary_is_watched_and_add_its_sums_up(world):
    world.round()
    candidate = world.state.release_id
    world.report(d1=(1, 0, 10, 0), d3=(1, 0, 5, 0))
    assert world.round().outcome == "canary"
    world.clock.now += POLICY.health_s
    world.report(d1=(0, 0, 7, 0), d2=(1, 0, 3, 0))
    assert "canary: 3 devices took it, 0 gave it up, 0 of 25 queries failed" in world.round().notes
    assert candidate in [move.release_id for move in world.registry.history() if move.state == "active"]


@pytest.mark.parametrize("counts", [(1, 1, 50, 0), (1, 0, 50, 1)])
def test_a_release_that_devices_give_up_or_that_fails_is_taken_back(world, counts):
    first, before = world.registry.active(), world.state
    world.round()
    bad = world.state.release_id
    world.report(d2=(1, 0, 1, 0), d3=counts)
    report = world.round()  # at once, not only when the watch is over
    assert world.registry.active() == first
    assert states(world)[:2] == ["active", "rejected"]
    assert world.registry.withdrawn() == [bad]
    assert any("canary: 2 devices took it" in note for note in report.notes)
    assert world.registry.release(world.state.release_id).manifest.parent == first  # training went on from the good one
    assert world.registry.release(world.state.release_id).manifest.version == 2  # and the bad one's number is not used again
    np.testing.assert_array_equal(world.state.canary.before.head["head.bias"], before.head["head.bias"])


def test_where_no_device_took_it_the_share_is_doubled_until_all_are_asked(world):
    world.round()
    candidate, shares = world.state.release_id, []
    while world.registry.active() != candidate:
        shares.append(world.registry.canary().share)
        world.clock.now += POLICY.health_s
        world.round()
    assert shares == [0.25, 0.5, 1.0]


def test_everybody_is_asked_about_the_canary_not_only_who_runs_it(world):
    world.round()
    candidate = world.state.release_id
    type(next(iter(world.devices.values()))).asked.clear()
    world.round()
    asked = type(next(iter(world.devices.values()))).asked
    assert set(asked) == {candidate}
    assert len({node for node, action, group in world.asked if group.startswith("2.")}) == len(world.devices)


def test_an_operators_word_counts_before_the_sums(world):
    world.round()
    candidate = world.state.release_id
    world.registry.promote(candidate, at=world.clock(), reason="by hand")
    world.report(d1=(1, 1, 1, 1), d2=(1, 1, 1, 1))
    assert "promoted by an operator" in world.round().notes[0]
    assert candidate in [release.release_id for release in world.registry.releases() if release.state != "rejected"]
    second = world.state.release_id
    world.registry.reject(second, at=world.clock(), reason="by hand")
    assert "taken back" in world.round().notes[0]
    assert world.registry.release(world.state.release_id).manifest.parent == candidate


def test_after_an_operators_rollback_training_goes_on_from_the_release_before(world):
    first = world.registry.active()
    world.round()
    world.clock.now += POLICY.health_s
    world.report(d1=(1, 0, 1, 0), d2=(1, 0, 1, 0))
    world.round()
    world.registry.reject(world.state.release_id, at=world.clock(), reason="by hand")
    world.round(max_attempts=1)
    world.registry.reject(world.state.release_id, at=world.clock(), reason="by hand")
    world.registry.rollback(at=world.clock(), reason="by hand")
    state = replace(world.state.canary.before, round_number=world.state.round_number, version=world.state.version)
    world.state = state
    report = world.round()
    assert f"training goes on from {first[:12]}" in report.notes[0]
    assert world.registry.release(world.state.release_id).manifest.parent == first


def test_the_state_with_a_canary_survives_a_crash(world):
    world.round()
    world.report(d1=(1, 0, 10, 0), d2=(1, 0, 5, 0))
    world.round()
    again = FederationState.from_bytes(world.state.to_bytes())
    assert again.canary.sums == HealthSums(taken=2, answered=15)
    assert again.to_bytes() == world.state.to_bytes()
    assert again.canary.before.release_id == world.registry.active()


@pytest.mark.parametrize(
    ("sums", "age_s", "share", "expected"),
    [
        (HealthSums(taken=10, rolled_back=1, answered=100, errors=1), 1800, 0.25, "promote"),
        (HealthSums(taken=9, rolled_back=1, answered=100, errors=0), 0, 0.25, "reject"),
        (HealthSums(taken=10, rolled_back=0, answered=99, errors=1), 0, 0.25, "reject"),
        (HealthSums(taken=10, rolled_back=0, answered=100, errors=1), 1799, 0.25, "wait"),
        (HealthSums(), 1800, 0.5, "widen"),
        (HealthSums(), 1800, 1.0, "promote"),
    ],
)
def test_the_verdict_is_exact(world, sums, age_s, share, expected):
    watch = CanaryWatch(since=1000.0, share=share, sums=sums, before=world.state)
    assert verdict(watch, POLICY, now=1000.0 + age_s)[0] == expected


# Who follows the canary.


def test_the_share_of_devices_on_the_canary_is_about_what_was_asked_and_other_ones_each_time():
    devices = [f"device-{number}" for number in range(2000)]
    chosen = [{device for device in devices if in_canary(device, release_id, 0.1)} for release_id in IDS]
    assert all(130 <= len(some) <= 270 for some in chosen)
    assert len(set.union(*chosen)) > 800
    assert all(in_canary(device, IDS[0], 1.0) and not in_canary(device, IDS[0], 0.0) for device in devices)
    wider = {device for device in devices if in_canary(device, IDS[0], 0.2)}
    assert chosen[0] < wider  # who is on it stays on it when the share grows


def test_devices_of_the_canary_run_the_candidate_and_all_others_the_stable_release(server, tmp_path, make_release):
    stable = server.publish(make_release())
    candidate = server.publish(make_release(scale=3.0, version=2), promote=False)
    server.registry.put_on_canary(candidate, share=0.5, at=server.clock(), reason="test")
    server.tuf.publish(server.registry)
    names = [f"device-{number}" for number in range(12)]
    runs = {name: server.device(tmp_path / name, name).latest().release_id for name in names}
    assert runs == {name: candidate if in_canary(name, candidate, 0.5) else stable for name in names}
    assert len(set(runs.values())) == 2
    server.registry.reject(candidate, at=server.clock(), reason="test")
    server.tuf.publish(server.registry)
    for name in names:
        latest = server.device(tmp_path / name, name).latest()
        assert (latest.release_id, latest.withdrawn) == (stable, {candidate})


def test_a_pointer_has_one_spelling_and_refuses_what_it_cannot_mean():
    pointer = ChannelPointer(release_id=IDS[1], version=3, certificate=IDS[2], share=0.25, withdrawn=(IDS[3],))
    assert ChannelPointer.from_bytes(pointer.to_bytes()) == pointer
    for change in ({"share": 1.5}, {"version": -1}, {"certificate": "x"}, {"withdrawn": ("y",)}, {"release_id": None}):
        fields = {name: getattr(pointer, name) for name in ("release_id", "version", "certificate", "share", "withdrawn")}
        with pytest.raises(Exception, match="channel"):
            ChannelPointer(**{**fields, **change})
    with pytest.raises(VerificationError):
        ChannelPointer.from_bytes(pointer.to_bytes() + b" ")


# The device's side, in a real session.


@pytest.fixture
def party(make_bench, make_release, participant_parts):
    """Four real participants whose releases are watched, in sessions about a canary."""

    class Party(participant_parts.Party):
        canary = ""

        def config(self, purpose):
            training = self.release.manifest.training
            clip, cap = training["clip_norm"], training["weight_cap"]
            config = super().config("counts")
            return replace(config, integers=HealthLayout().integers, scale=clip, clip_norm=clip, weight_cap=cap)

        def task(self, purpose):
            return participant_parts.task_of(
                self.release, purpose="health", now=self.clock(), canary_release_id=self.canary
            )

        def counted(self, round_number):
            return HealthLayout().decode(self.run(purpose="health", round_number=round_number).integers)

    made = Party(make_bench, make_release(), devices=4)
    for name, bench in made.benches.items():
        watch = ReleaseWatch(bench.store, WatchRules(), made.clock)
        bench.manager = bench.agent.releases = ReleaseManager(
            made.source, shelf=SharedShelf(), store=bench.store, loader=bench.manager.loader, watch=watch
        )
        bench.manager.sync()
        made.restart(name)
    return made


def test_a_devices_counts_leave_once_and_arrive_as_sums(party, make_release):
    canary, stable = make_release(scale=3.0, version=2), party.source.desired
    party.canary = canary.release_id
    for name in ("device-1", "device-2"):
        party.source.publish(canary)
        party.benches[name].manager.sync()
        party.benches[name].agent.ask(np.array([1, 1, 0, 0], np.float32))
    party.benches["device-2"].manager.give_up(canary.release_id, "test")
    party.source.desired = stable
    assert party.counted(3) == HealthSums(taken=2, rolled_back=1, answered=2, errors=0)
    assert party.check_in(round_number=4) == {}  # the others never took it, and these two have no news
    party.benches["device-1"].manager.give_up(canary.release_id, "test")
    assert set(party.check_in(round_number=5)) == {"device-1"}
    with pytest.raises(SessionAborted, match="1 devices, expected 2"):
        party.counted(6)
