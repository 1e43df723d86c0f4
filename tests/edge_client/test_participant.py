"""A device's side of a session, with the real protocol on both ends and several devices in one cohort."""

import itertools
import json
import logging
import math
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import ConfigRecord, Message, RecordDict

from edge_client.flower import client_app, participant_socket
from edge_client.flower.client_app import PAYLOAD, VECTOR, build_client_app
from edge_client.power import PowerMeter, find_sensors
from edge_client.power.accounting import EnergyMeter
from edge_client.refusal import SessionRefused
from edge_client.rounds.budget import ContributionBudget
from edge_client.rounds.encoding import ContributionEncoder, encode_contribution
from edge_client.rounds.participant import SLOT, Federation, Participant
from edge_client.rounds.updates import make_update
from edge_client.store import ContributionEntry, LabelledQuery, Probe, restore
from edge_client.training_policy import TrainingPolicy
from fedge import logs, secagg
from fedge.calendar import DAILY, DAY_S, Calendar
from fedge.costs import Kind, PriceBook, load_profiles
from fedge.errors import FedgeError, VerificationError
from fedge.features import content_hash
from fedge.identity import DeviceIdentity, issue_certificate, new_certificate_authority, verify_certificate
from fedge.layouts import CountsLayout, CountSums, UpdateLayout
from fedge.randomness import derive
from fedge.release import Release, flatten, sign_release
from fedge.routing import Policy, coarse_grid, confidence, softmax
from fedge.routing.confidence import nll_sums
from fedge.routing.probe_noise import ProbeNoise
from fedge.secagg import (
    CodecError,
    DeviceState,
    Phase,
    Purpose,
    RangeClaim,
    RefusedError,
    SessionAborted,
    SessionConfig,
    Task,
    UnknownRoundKey,
)
from fedge.secagg.rotation import rotate_back, rotation_seed
from fedge.usage import NAMES, Usage
from protos.fedge.rounds.v1 import rounds_pb2
from sim.grid import InProcessGrid, Node, node_context

NOW = 1_767_225_600.0
SESSION_S = 600.0
CLIP, CAP, RATE, EPOCHS = 0.3, 3, 0.5, 2
FEDERATION = "test"
EPSILON, PROBE_CAP = 20.0, 16  # as little noise as there can be: what is summed shows
LAYOUT = CountsLayout(5, lift=ProbeNoise(EPSILON, 1).bound)
ROUND_KEY = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
AUTHORITY = new_certificate_authority(
    "test", not_before=NOW - 60, not_after=NOW + 30 * DAY_S, private_key=Ed25519PrivateKey.from_private_bytes(b"\x0a" * 32)
)


def task_of(release: Release, *, purpose: Purpose = "update", now: float = NOW, **changes: Any) -> Task:
    """What a session about ``release`` asks for, in the period that holds ``now``."""
    counts = purpose == "counts"
    values = {
        "purpose": purpose,
        "period": DAILY.period_at(now),
        "release_id": release.release_id,
        "weights_sha256": release.manifest.weights_sha256,
        "structure_sha256": release.manifest.structure_sha256,
        "architecture": release.manifest.architecture_text,
        "encoder_sha256": release.manifest.encoder_sha256,
        "probe_epsilon": EPSILON if counts else 0.0,
        "probe_cap": PROBE_CAP if counts else 0,
    }
    return Task(**{**values, **changes})


def claim_of(task: Task) -> RangeClaim | None:
    if not task.range_proofs:
        return None
    noise = ProbeNoise(task.probe_epsilon, 1)
    layout = CountsLayout(LAYOUT.bins, lift=noise.bound)
    return layout.claim(probe_cap=task.probe_cap, probe_store=task.probe_store, room=noise.room)


def proving(party: "Party", **changes: Any) -> None:
    """Let the party's counts sessions have range proofs from now on."""
    values = {"range_proofs": True, "probe_store": 8 * PROBE_CAP, **changes}
    party.tasks = {"counts": task_of(party.release, purpose="counts", now=party.clock(), **values)}


def request_of(task: Task, *, round_number: int = 1, attempt: int = 1) -> bytes:
    return rounds_pb2.CheckInRequest(round=round_number, attempt=attempt, task=task.to_message()).SerializeToString()


def seed_of(name: str) -> bytes:
    return derive(b"s" * 32, name)


class Party:
    """Some devices, their aggregator's side of the protocol, and the release that they train on."""

    training_policy = TrainingPolicy(max_example_share=math.inf)
    """One example may be all of an update: these devices have as few."""

    def __init__(self, make_bench: Callable[..., Any], release: Release, *, devices: int) -> None:
        self.release = release
        self.names = [f"device-{number}" for number in range(1, devices + 1)]
        first = make_bench()
        self.clock, self.source = first.clock, first.source
        self.source.publish(release)
        benches = [first, *(make_bench(source=self.source) for _ in self.names[1:])]
        self.benches = dict(zip(self.names, benches, strict=True))
        self.stores = {name: bench.store for name, bench in self.benches.items()}
        self.identities = {name: self._enrolled(name) for name in self.names}
        self.participants = {name: self.participant(name) for name in self.names}
        self.server: secagg.ServerState | None = None
        self.survivors = 0
        self.tasks: dict[str, Task] = {}

    def _enrolled(self, name: str) -> DeviceIdentity:
        key = Ed25519PrivateKey.generate()
        certificate = issue_certificate(
            AUTHORITY.private_key, AUTHORITY.name, name, key.public_key(), not_before=NOW - 60, not_after=NOW + 30 * DAY_S
        )
        return DeviceIdentity(name, key, certificate)

    def _vouched(self, der: bytes) -> Any:
        return verify_certificate(der, AUTHORITY.private_key.public_key(), self.clock())

    def federation(self) -> Federation:
        return Federation(
            name=FEDERATION,
            round_key=ROUND_KEY.public_key(),
            verify_certificate=self._vouched,
            revoked=frozenset(),
            n_min=2,
            budget=ContributionBudget(max_probe_epsilon=EPSILON),
        )

    def participant(
        self,
        name: str,
        *,
        power: PowerMeter | None = None,
        repeatable_noise: bool = False,
        encoder: ContributionEncoder = encode_contribution,
    ) -> Participant:
        """A participant as a process that starts makes it: nothing but the store and the seed is known."""
        return Participant(
            identity=self.identities[name],
            federation=self.federation(),
            store=self.stores[name],
            releases=self.benches[name].manager,
            meter=EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"], power),
            policy=Policy.default(),
            roles=secagg,
            seed=seed_of(name),
            clock=self.clock,
            entropy=os.urandom,
            repeatable_noise=repeatable_noise,
            encoder=encoder,
            training_policy=self.training_policy,
        )

    def put_back(self, name: str, dumped: bytes, *, repeatable_noise: bool) -> None:
        """The device's database as it was once, under the same secrets."""
        self.stores[name] = restore(dumped)
        self.participants[name] = self.participant(name, repeatable_noise=repeatable_noise)

    def next_release(self, release_key: Ed25519PrivateKey) -> None:
        """The same model as the next version, which sessions are about from now on."""
        old = self.release
        manifest = replace(old.manifest, version=old.manifest.version + 1, parent=old.release_id)
        self.release = sign_release(manifest, old.files, release_key)
        self.source.publish(self.release)

    def restart(self, name: str) -> None:
        self.participants[name] = self.participant(name)

    def phase(self, name: str) -> Phase:
        return self.state(name).phase

    def state(self, name: str) -> DeviceState:
        stored = self.stores[name].sessions.load(SLOT)
        assert stored is not None
        return DeviceState.from_bytes(stored, identity_key=self.identities[name].private_key)

    def config(self, purpose: Purpose, *, noise: float = 0.0) -> SessionConfig:
        weights = flatten(self.release.weights())
        integers = {"update": UpdateLayout().integers, "counts": LAYOUT.integers, "usage": len(NAMES)}[purpose]
        return SessionConfig(
            reals=len(weights) if purpose == "update" else 0,
            integers=0 if noise else integers,
            noise_multiplier=noise,
            bits=32,
            cohort_max=16,
            scale=CLIP,
            clip_norm=CLIP,
            weight_cap=CAP,
            n_min=2,
            deadline=self.clock() + SESSION_S,
        )

    def task(self, purpose: Purpose) -> Task:
        return self.tasks.get(purpose) or task_of(self.release, purpose=purpose, now=self.clock())

    def check_in(self, *, purpose: Purpose = "update", round_number: int = 1, attempt: int = 1) -> dict[str, bytes]:
        """The bundles of those who have something to report. A round is a day: the clock moves to its period."""
        self.clock.now = max(self.clock.now, NOW + (round_number - 1) * DAY_S)
        request = request_of(self.task(purpose), round_number=round_number, attempt=attempt)
        bundles = {}
        for name in self.names:
            response = rounds_pb2.CheckInResponse.FromString(self.participants[name].check_in(request))
            assert response.device_id == name
            assert bool(response.bundle) is not response.nothing_to_report
            if response.bundle:
                bundles[name] = response.bundle
        return bundles

    def open(
        self, *, purpose: Purpose = "update", round_number: int = 1, attempt: int = 1, config: SessionConfig | None = None
    ) -> dict[str, bytes]:
        """Steps 0 and 1: everyone checked in, and the roster messages."""
        bundles = self.check_in(purpose=purpose, round_number=round_number, attempt=attempt)
        return self.open_with(bundles, purpose=purpose, round_number=round_number, attempt=attempt, config=config)

    def open_with(
        self,
        bundles: Mapping[str, bytes],
        *,
        purpose: Purpose = "update",
        round_number: int = 1,
        attempt: int = 1,
        config: SessionConfig | None = None,
    ) -> dict[str, bytes]:
        """Step 1 alone."""
        self.server, messages = secagg.create_session(
            config or self.config(purpose),
            bundles,
            round_key=ROUND_KEY,
            run=FEDERATION,
            round=round_number,
            attempt=attempt,
            task=self.task(purpose),
            claim=claim_of(self.task(purpose)),
            verify_certificate=self._vouched,
            now=self.clock(),
            entropy=os.urandom,
        )
        return messages

    def share(self, messages: Mapping[str, bytes]) -> dict[str, bytes]:
        for name, message in messages.items():
            secagg.handle_roster_reply(self.server, name, self.participants[name].roster(message))
        return secagg.create_share_messages(self.server)

    def mask(self, messages: Mapping[str, bytes], *, without: Collection[str] = ()) -> dict[str, bytes]:
        for name, message in messages.items():
            if name not in without:
                secagg.handle_masked(self.server, name, *self.participants[name].shares(message))
        return secagg.create_consistency_messages(self.server)

    def agree(self, messages: Mapping[str, bytes]) -> dict[str, bytes]:
        for name, message in messages.items():
            secagg.handle_consistency_reply(self.server, name, self.participants[name].consistency(message))
        return secagg.create_unmask_messages(self.server)

    def reveal(self, messages: Mapping[str, bytes]) -> secagg.Outcome:
        for name, message in messages.items():
            secagg.handle_unmask_reply(self.server, name, self.participants[name].unmask(message))
        return secagg.recover(self.server)

    def run(
        self,
        *,
        purpose: Purpose = "update",
        round_number: int = 1,
        attempt: int = 1,
        without: Collection[str] = (),
        config: SessionConfig | None = None,
    ) -> secagg.Decoded:
        """A whole session; those in ``without`` leave before they mask."""
        self.clock.now = max(self.clock.now, NOW + (round_number - 1) * DAY_S)
        shape = config or self.config(purpose)
        delivery = self.share(self.open(purpose=purpose, round_number=round_number, attempt=attempt, config=shape))
        outcome = self.reveal(self.agree(self.mask(delivery, without=without)))
        assert set(outcome.survivors) == set(delivery) - set(without)
        self.survivors = len(outcome.survivors)
        decoded = secagg.decode(outcome.total, len(outcome.survivors), shape)
        if purpose != "update" or shape.noise_multiplier:
            return decoded
        seed = rotation_seed(self.release.release_id, round_number, attempt)
        return replace(decoded, reals=rotate_back(decoded.reals, seed, len(flatten(self.release.weights()))))

    def teach(self, name: str, examples: list[tuple[np.ndarray, str]]) -> None:
        self.stores[name].memory.add(
            [LabelledQuery(content_hash(query), query, label, "central", NOW) for query, label in examples]
        )

    def teach_news(self, queries: np.ndarray) -> None:
        """Let each device learn one answer more."""
        for place, name in enumerate(self.names):
            self.teach(name, [(queries[place], ("left", "right")[place % 2])])

    def probe(self, name: str, query: np.ndarray, *, agrees: bool) -> None:
        """A probe that would have stayed local."""
        store, digest = self.stores[name], content_hash(query)
        store.fates.settle({digest: True}, at=NOW)
        central = "left" if agrees else "right"
        store.probes.record([Probe(digest, query, central, "left", 0.9, "old", 0, True, NOW)])

    def countable(self, name: str) -> int:
        """Return how many of a device's probes no threshold of the coarse grid leaves out."""
        return int(self.are_countable(name, [probe.query for probe in self.stores[name].probes.all()]).sum())

    def are_countable(self, name: str, queries: Sequence[np.ndarray]) -> np.ndarray:
        """Return for each query whether it stands in the histograms of stored probes."""
        base, _ = self.benches[name].manager.obtain(self.release.release_id)
        sure = confidence(softmax(base.session.predict(list(queries)).logits))
        return sure >= coarse_grid(self.release.manifest.threshold_grid)[0]

    def used(self, name: str) -> list[int]:
        return [example.used for example in self.stores[name].memory.all()]

    def pending(self, name: str) -> tuple[int, int]:
        """The running pair that the device has not reported yet."""
        return self.stores[name].probes.select(fresh=100, max_scored=1).running_pair

    def counts(self, round_number: int = 1, **session: Any) -> CountSums:
        """The sums of a whole counts session."""
        decoded = self.run(purpose="counts", round_number=round_number, **session)
        return LAYOUT.decode(decoded.integers, devices=self.survivors)


@pytest.fixture
def make_party(make_bench, make_release, release_key, queries):
    """Four devices by default; device k knows k labelled queries (one batch) and has k probes, one of which disagrees."""

    def make(*, devices: int = 4, taught: bool = True, oos_label: str | None = None, noise: float = 0.0) -> Party:
        plain = make_release(scale=0.5)
        training = {**plain.manifest.training, "clip_norm": CLIP, "weight_cap": CAP, "epochs": EPOCHS}
        training = {**training, "noise_multiplier": noise} if noise else training
        manifest = replace(plain.manifest, training=training, oos_label=oos_label)
        party = Party(make_bench, sign_release(manifest, plain.files, release_key), devices=devices)
        for number, name in enumerate(party.names, start=1):
            for which, query in enumerate(queries[10 * number : 10 * number + number] if taught else ()):
                party.teach(name, [(query, ("left", "right")[(which + number) % 2])])
                party.probe(name, query, agrees=which > 0)
        return party

    return make


@pytest.fixture
def party(make_party) -> Party:
    return make_party()


def trained(release: Release, release_math, examples: list[LabelledQuery]) -> np.ndarray:
    """Full-batch softmax regression in float64, its update clipped and weighed: what the device must add to the sum."""
    embedding = release_embeddings(release_math, examples)
    target = np.eye(2)[[("left", "right").index(example.label) for example in examples]]
    start = {name: array.astype(np.float64) for name, array in release.weights().items()}
    weights = dict(start)
    for _ in range(EPOCHS):
        logits = embedding @ weights["head.weight"] + weights["head.bias"]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        error = (p - target) / len(examples)
        weights = {
            "head.weight": weights["head.weight"] - RATE * embedding.T @ error,
            "head.bias": weights["head.bias"] - RATE * error.sum(axis=0),
        }
    delta = np.concatenate([(weights[name] - start[name]).ravel() for name in sorted(weights)])
    return delta * min(1.0, CLIP / np.linalg.norm(delta)) * min(len(examples), CAP) / CAP


def release_embeddings(release_math, examples: list[LabelledQuery]) -> np.ndarray:
    """The tiny release's encoder, read off its numpy twin with the identity as head; each row scaled to the norm sqrt(3)."""
    head = {"head.weight": np.eye(3, dtype=np.float32), "head.bias": np.zeros(3, dtype=np.float32)}
    rows = release_math(np.array([example.query for example in examples]), head).astype(np.float64)
    return rows * math.sqrt(3) / np.linalg.norm(rows, axis=1, keepdims=True)


# What a session gives.


def test_a_session_gives_the_weighted_sum_of_the_clipped_updates(party, release_math):
    expected = sum(trained(party.release, release_math, party.stores[name].memory.all()) for name in party.names)
    decoded = party.run()
    # Each device rounds by less than one quantum; the rest is float32 against float64.
    quantum = CLIP / party.config("update").quantum
    assert decoded.reals == pytest.approx(expected, abs=len(party.names) * quantum + 1e-6)
    sums = UpdateLayout().decode(decoded.integers)
    assert (sums.weight, sums.examples) == (1 + 2 + 3 + 3, 1 + 2 + 3 + 4)


def test_the_sum_is_that_of_the_encoded_updates_to_the_last_bit(party):
    config = party.config("update")
    rotation = rotation_seed(party.release.release_id, 1, 1)
    vectors = []
    for name in party.names:
        releases, seed = party.benches[name].manager, seed_of(name)
        base, _ = releases.obtain(party.release.release_id)
        own = make_update(party.stores[name], base, seed=derive(seed, "training", 1, 1))
        vectors.append(secagg.encode(*own.coordinates(config, rotation), config, derive(seed, "rounding", 1, 1)))
    decoded = party.run()
    expected = secagg.decode(np.sum(vectors, axis=0, dtype=np.uint32), len(vectors), config)
    assert decoded.reals.tolist() == rotate_back(expected.reals, rotation, len(decoded.reals)).tolist()
    assert decoded.integers.tolist() == expected.integers.tolist()


def test_training_under_a_sensor_is_charged_by_that_sensor_and_everything_else_by_the_model(party, tmp_path):
    hwmon = tmp_path / "class" / "hwmon" / "hwmon0"
    hwmon.mkdir(parents=True)
    for name, content in {"name": "ina219", "power1_input": "2700000"}.items():
        (hwmon / name).write_text(f"{content}\n")
    seconds = itertools.count()
    power = PowerMeter(find_sensors(tmp_path, pmic=("fedge-no-such-program",)), lambda: float(next(seconds)))
    power.rest()
    power.rest()
    party.participants["device-3"] = party.participant("device-3", power=power)
    (hwmon / "power1_input").write_text("6700000\n")
    party.run()
    rows = [row for row in party.stores["device-3"].ledger.since() if row.unit == "J" and row.quantity]
    assert {row.kind for row in rows if row.source == "ina219"} == {Kind.DEVICE_TRAINING, Kind.DEVICE_INFERENCE}
    assert {row.kind for row in rows if row.source == "model"} == {Kind.DEVICE_SECAGG, Kind.DEVICE_RADIO}
    # Four watts above rest for the seconds that this stopwatch counted, one a look and at least one.
    assert sum(row.quantity for row in rows if row.source == "ina219") >= 4.0


def test_some_update_of_that_session_is_clipped_and_some_is_not(party, release_math):
    weights = [min(number, CAP) / CAP for number in (1, 2, 3, 4)]
    norms = [
        np.linalg.norm(trained(party.release, release_math, party.stores[name].memory.all())) / weight
        for name, weight in zip(party.names, weights, strict=True)
    ]
    assert max(norms) == pytest.approx(CLIP) and min(norms) < 0.95 * CLIP


def test_the_sum_of_those_who_delivered_is_exact_when_one_leaves_before_masking(party, release_math):
    rest = [name for name in party.names if name != "device-2"]
    expected = sum(trained(party.release, release_math, party.stores[name].memory.all()) for name in rest)
    decoded = party.run(without=["device-2"])
    assert decoded.reals == pytest.approx(expected, abs=1e-6)
    assert UpdateLayout().decode(decoded.integers).examples == 1 + 3 + 4
    assert party.used("device-2") == [0, 0]
    assert party.used("device-3") == [1, 1, 1]


def test_with_noise_devices_weigh_the_same_report_nothing_else_and_refuse_a_session_with_less(make_party, queries):
    party = make_party(noise=2.0)
    exact, noisy = party.config("update"), party.config("update", noise=2.0)
    with pytest.raises(RefusedError, match=r"the noise multiplier is 1\.5: this device takes part from 2\.0 on"):
        party.share(party.open(config=party.config("update", noise=1.5)))
    with pytest.raises(RefusedError, match="number of integers"):
        party.share(party.open(config=exact))
    sums = [party.run(config=noisy, attempt=2).reals]
    party.clock.now = NOW + DAY_S
    party.teach_news(queries)
    sums.append(party.run(config=party.config("update", noise=2.0), round_number=2).reals)
    expected = noisy.noise_sigma * math.sqrt(len(party.names)) * noisy.scale / noisy.quantum
    # The noise of the two is not the same. Of eight values a standard deviation varies much: at the expected one itself this
    # would fail in a fifth of all runs, at a quarter of it in less than one of ten thousand.
    assert np.std(sums[0] - sums[1]) > expected / 4
    assert np.abs(sums[0]).max() < 12 * expected


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_database_that_was_put_back_brings_no_noise_twice_except_in_a_simulation(make_party, repeatable):
    party = make_party(noise=2.0)
    noisy = party.config("update", noise=2.0)
    before = {name: store.dump() for name, store in party.stores.items()}
    sums = []
    for _ in range(2):
        for name in party.names:
            party.put_back(name, before[name], repeatable_noise=repeatable)
        sums.append(party.run(config=noisy).reals)
    assert (sums[0].tolist() == sums[1].tolist()) is repeatable


def test_a_device_with_a_floor_takes_no_part_in_sums_without_noise_whatever_the_release_says(party):
    for device in party.participants.values():
        device.take_federation(replace(party.federation(), noise_multiplier=1.0))
    with pytest.raises(RefusedError, match=r"the noise multiplier is 0\.0: this device takes part from 1\.0 on"):
        party.share(party.open())


def test_counts_are_exact_where_updates_carry_noise(make_party):
    party = make_party(noise=2.0)
    assert party.counts().running_seen > 0


def test_a_device_without_labels_stays_out_of_an_update_instead_of_sending_zeros(make_party, queries):
    party = make_party(taught=False)
    assert party.check_in() == {}
    for name in party.names[:2]:
        party.teach(name, [(queries[0], "left")])
    assert set(party.check_in(attempt=2)) == {"device-1", "device-2"}


def test_out_of_scope_answers_are_left_out_of_an_update_but_judged_for_the_temperature(make_party, queries, release_math):
    party = make_party(taught=False, oos_label="right")
    for number, name in enumerate(party.names):
        party.teach(name, [(queries[2 * number], "left"), (queries[2 * number + 1], "right")])
    in_scope = [[e for e in party.stores[name].memory.all() if e.label == "left"] for name in party.names]
    decoded = party.run()
    sums = UpdateLayout().decode(decoded.integers)
    assert (sums.weight, sums.examples) == (4, 4)
    assert decoded.reals == pytest.approx(sum(trained(party.release, release_math, e) for e in in_scope), abs=1e-6)
    remembered = [example for name in party.names for example in party.stores[name].memory.all()]
    head = party.release.weights()
    logits = release_embeddings(release_math, remembered) @ head["head.weight"] + head["head.bias"]
    labels = np.array([("left", "right").index(example.label) for example in remembered], dtype=np.int64)
    assert sums.nll == pytest.approx(nll_sums(logits, labels), abs=4 * 5.1e-4)
    assert party.used("device-1") == [1, 1]  # both were seen: neither is fresh for the next temperature


def test_a_label_that_the_release_does_not_know_is_nothing_to_report(make_party, queries):
    party = make_party(taught=False)
    for number, name in enumerate(party.names):
        party.teach(name, [(queries[number], "up")])
    assert party.check_in() == {}


def test_only_answers_that_no_training_saw_are_scored_for_the_temperature(party, queries):
    assert UpdateLayout().decode(party.run().integers).nll.all()
    releases = party.benches["device-4"].manager
    base, _ = releases.obtain(party.release.release_id)
    party.teach("device-4", [(queries[9], "left")])
    again = make_update(party.stores["device-4"], base, seed=b"x" * 32)
    head = base.release.manifest.trained()
    logits = head.logits(base.release.weights(), head.normalize(base.session.predict([queries[9]]).embedding))
    assert again.metrics.examples == 5
    assert again.metrics.nll == pytest.approx(nll_sums(logits, np.array([0])))


def test_a_policys_rules_weigh_in_training_and_nothing_else_of_the_update_changes(party):
    releases = party.benches["device-4"].manager
    base, _ = releases.obtain(party.release.release_id)
    text = '[labels.left]\nrule = "always-central"\n[training]\nconstraint_weight = '

    def made(policy: str = ""):
        return make_update(party.stores["device-4"], base, seed=b"x" * 32, policy=Policy.from_toml(policy))

    free, off, on, more = made(), made(text + "0"), made(text + "1"), made(text + "9")
    assert free.reals.tobytes() == off.reals.tobytes() and free.integers.tolist() == off.integers.tolist()
    assert on.reals.tobytes() == made(text + "1").reals.tobytes()
    assert len({update.reals.tobytes() for update in (free, on, more)}) == 3
    without = make_update(party.stores["device-4"], base, seed=b"x" * 32)
    assert without.reals.tobytes() == free.reals.tobytes()
    sums = [update.metrics for update in (free, more)]
    assert sums[0].examples == sums[1].examples
    assert sums[0].nll.tolist() == sums[1].nll.tolist()


# What the devices answered and used.


def used(party, round_number=1):
    return Usage.decode(party.run(purpose="usage", round_number=round_number).integers)


def test_usage_is_what_was_answered_since_the_last_sum(party):
    for name in party.names:
        party.stores[name].count({"answered.device.confident": 3})
        party.stores[name].count({"answered.central.probe": 1, "answered.central.no_certificate": 2})
        party.stores[name].count({"answered.human.policy_human": 7})
    party.stores["device-1"].count({"answered.device.offline": 1, "degraded": 1})
    first = used(party)
    assert (first.queries, first.local, first.degraded, first.probes) == (25, 13, 1, 4)
    assert first.fallback_rate == pytest.approx(8 / 21)
    assert (first.idle_j, first.hardware_microusd) == (0, 0)  # nobody has been asked before
    for name in party.names[1:]:
        party.stores[name].count({"answered.device.confident": 5})
    second = used(party, 2)
    assert (second.queries, second.local, party.survivors) == (15, 15, 3)  # device 1 was not asked anything


def test_a_device_that_answered_nothing_stays_out_of_the_sum_of_usage(party):
    assert party.check_in(purpose="usage") == {}
    party.stores["device-2"].count({"answered.device.confident": 5})
    assert set(party.check_in(purpose="usage", attempt=2)) == {"device-2"}


def test_usage_carries_the_energy_of_the_ledger_each_joule_once(party):
    party.run()  # trains
    for name in party.names:
        party.stores[name].count({"answered.device.confident": 1})
    ledgers = [party.stores[name].ledger.lifetime() for name in party.names]
    usage = used(party, 2)
    for kind, told in ((Kind.DEVICE_TRAINING, usage.training_mj), (Kind.DEVICE_RADIO, usage.radio_mj)):
        owed = sum(ledger.quantity(kind) for ledger in ledgers) * 1000
        assert owed - len(party.names) <= told <= owed + 1e-6
    for name in party.names:
        party.stores[name].count({"answered.device.confident": 1})
    assert used(party, 3).training_mj == 0


def test_usage_counts_the_time_between_two_sums_as_idle(party):
    for name in party.names:
        party.stores[name].count({"answered.device.confident": 1})
    used(party)
    for name in party.names:
        party.stores[name].count({"answered.device.confident": 1})
    profile = load_profiles()["raspberry-pi-4"]
    usage = used(party, 2)
    assert usage.idle_j == len(party.names) * int(profile.idle_w * DAY_S)
    assert usage.hardware_microusd == len(party.names) * int(profile.hardware_usd_per_s * DAY_S * 1e6)


def test_usage_of_an_aborted_session_that_never_left_is_reported_the_next_time(party):
    for name in party.names:
        party.stores[name].count({"answered.device.confident": 3})
    party.share(party.open(purpose="usage"))
    assert Usage.decode(party.run(purpose="usage", attempt=2).integers).queries == 12


# Running pairs and memory are spent when the vector leaves.


def test_counts_carry_each_running_pair_once(party, queries):
    first = party.counts()
    assert (first.running_seen, first.running_disagreed) == (1 + 2 + 3 + 4, 4)
    assert (first.seen.sum(), first.new_seen.sum()) == (sum(map(party.countable, party.names)), 10)
    for name, query in zip(party.names, queries[5:], strict=False):
        party.probe(name, query, agrees=False)
    second = party.counts(2)
    assert (second.running_seen, second.running_disagreed) == (4, 4)
    # The grid test looks at all probes, each time.
    assert (second.seen.sum(), second.new_seen.sum()) == (sum(map(party.countable, party.names)), 4)


def test_a_device_without_a_fresh_probe_stays_out_of_the_counts(party, queries):
    party.counts()
    party.probe("device-3", queries[5], agrees=True)
    assert set(party.check_in(purpose="counts", round_number=2)) == {"device-3"}


def test_a_probe_stands_in_no_more_histograms_than_the_device_allows(party, queries):
    for name in party.names:
        budget = ContributionBudget(max_probe_epsilon=EPSILON, max_rescores=2)
        party.participants[name].take_federation(replace(party.federation(), budget=budget))
    seen, countable = [], []
    for number in range(1, 5):
        for name, query in zip(party.names, queries[4 * number :], strict=False):
            party.probe(name, query, agrees=True)
        countable.append(sum(map(party.countable, party.names)))
        seen.append(int(party.counts(number).seen.sum()))
    # Only what came in the period and in the one before.
    assert seen == [now - before for before, now in zip([0, 0, *countable], countable, strict=False)]


def test_a_device_counts_no_more_fresh_probes_a_period_than_the_cap(make_party, queries):
    party = make_party(taught=False)
    for name in party.names:
        for query in queries[:20]:
            party.probe(name, query, agrees=True)
    assert [int(party.counts(number).new_seen.sum()) for number in (1, 2)] == [4 * PROBE_CAP, 4 * (20 - PROBE_CAP)]


def test_counts_with_range_proofs_are_those_without(party):
    proving(party)
    sums = party.counts()
    assert (sums.running_seen, sums.running_disagreed) == (1 + 2 + 3 + 4, 4)
    assert (sums.seen.sum(), sums.new_seen.sum()) == (sum(map(party.countable, party.names)), 10)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_noise_stays_within_what_can_be_proved(make_party, queries, epsilon):
    party = make_party(taught=False)
    for name in party.names:
        party.probe(name, queries[0], agrees=True)
    proving(party, probe_epsilon=epsilon)
    layout = CountsLayout(LAYOUT.bins, lift=ProbeNoise(epsilon, 1).bound)
    for name in party.names:
        budget = ContributionBudget(max_probe_epsilon=epsilon)
        party.participants[name].take_federation(replace(party.federation(), budget=budget))
    assert layout.decode(party.run(purpose="counts").integers, devices=4).new_seen.sum() == 4


def test_a_device_scores_no_more_stored_probes_than_the_task_lets_it_prove(make_party, queries):
    party, store = make_party(taught=False), PROBE_CAP + 2
    sure = queries[party.are_countable("device-1", queries).argmax()]
    for name in party.names:
        for number in range(20):
            party.probe(name, sure * np.float32(1 + number / 1000), agrees=True)
    seen = []
    for number in (1, 2):
        party.clock.now = NOW + (number - 1) * DAY_S
        proving(party, probe_store=store)
        sums = party.counts(number)
        seen.append((int(sums.new_seen.sum()), int(sums.seen.sum())))
    assert seen == [(4 * PROBE_CAP, 4 * PROBE_CAP), (4 * (20 - PROBE_CAP), 4 * store)]


def test_a_lying_vector_cannot_be_proved_and_is_not_spent(party):
    def lying(contribution, release, session, *, rounding_seed, noise_seed):
        vector = encode_contribution(contribution, release, session, rounding_seed=rounding_seed, noise_seed=noise_seed)
        vector[-8:-3] -= np.uint32(1)  # a disagreement of others in each bin
        return vector

    proving(party)
    liar = party.participants["device-2"] = party.participant("device-2", encoder=lying)
    delivery = party.share(party.open(purpose="counts"))
    with pytest.raises(CodecError, match="exceeds what"):
        liar.shares(delivery["device-2"])
    assert party.pending("device-2") == (2, 1)


def test_the_noise_of_a_histogram_is_drawn_anew_for_each_session_and_leaves_the_new_probes_exact(make_party, queries):
    party = make_party(taught=False)
    epsilon = 0.5
    layout = CountsLayout(5, lift=ProbeNoise(epsilon, 1).bound)
    for name in party.names:
        party.probe(name, queries[0], agrees=True)
        task = replace(party.task("counts"), probe_epsilon=epsilon)
        party.tasks = {"counts": task}
    sums = []
    for number in (1, 2, 3, 4):
        for name in party.names:
            party.probe(name, queries[number], agrees=True)
        party.tasks = {"counts": replace(party.task("counts"), period=DAILY.period_at(NOW) + number - 1)}
        sums.append(layout.decode(party.run(purpose="counts", round_number=number).integers, devices=4))
    assert [int(one.new_seen.sum()) for one in sums] == [8, 4, 4, 4]
    assert {int(one.seen.sum()) for one in sums} != {8, 12, 16, 20}
    assert len({tuple(one.seen - one.disagreed) for one in sums}) == 4


def test_pairs_are_spent_when_the_vector_leaves_and_not_before(party):
    messages = party.open(purpose="counts")
    assert party.pending("device-4") == (4, 1)
    delivery = party.share(messages)
    assert party.pending("device-4") == (4, 1)
    _, vector = party.participants["device-4"].shares(delivery["device-4"])
    assert vector is not None
    assert party.pending("device-4") == (0, 0)
    assert party.pending("device-3") == (3, 1)


def test_the_marks_are_written_before_the_masked_state_whose_fsync_covers_them(party, monkeypatch):
    delivery = party.share(party.open(purpose="counts"))
    sessions, seen = type(party.stores["device-4"].sessions), []
    save = sessions.save

    def watching(self, slot, state):
        seen.append(party.pending("device-4"))
        save(self, slot, state)

    monkeypatch.setattr(sessions, "save", watching)
    party.participants["device-4"].shares(delivery["device-4"])
    assert seen == [(0, 0)]


def test_a_pair_that_comes_in_after_the_vector_left_stays_pending(party, queries):
    delivery = party.share(party.open(purpose="counts"))
    party.mask(delivery)
    party.probe("device-1", queries[5], agrees=True)
    assert party.pending("device-1") == (1, 0)


def test_an_aborted_session_reports_no_pair_twice(party):
    delivery = party.share(party.open(purpose="counts"))
    with pytest.raises(SessionAborted):  # two of four deliver, it takes three
        party.mask(delivery, without=["device-1", "device-2"])
    sums = party.counts(2)
    assert (sums.running_seen, sums.running_disagreed) == (1 + 2, 2)  # what devices 3 and 4 sent off is gone for good


@pytest.mark.parametrize("purpose", ["update", "counts", "usage"])
def test_a_period_is_spent_once_whatever_release_session_or_attempt_the_server_names(party, release_key, queries, purpose):
    for name in party.names:
        party.stores[name].count({"answered.device.confident": 3})
    party.run(purpose=purpose)
    for name, query in zip(party.names, queries[5:], strict=False):
        party.probe(name, query, agrees=True)
        party.teach(name, [(query, "left")])
        party.stores[name].count({"answered.device.confident": 3})
        party.restart(name)
    party.next_release(release_key)  # a twin: the same model under another id
    party.clock.now += DAY_S - 1
    assert party.check_in(purpose=purpose, attempt=2) == {}
    party.clock.now += 1
    assert set(party.check_in(purpose=purpose, attempt=3)) == set(party.names)


def test_a_session_that_was_opened_before_its_period_was_spent_gets_nothing_either(party):
    """Two sessions side by side: the slot holds one, and the period's row stops the other's vector in any case."""
    delivery = party.share(party.open(purpose="counts"))
    store = party.stores["device-1"]
    entry = ContributionEntry("counts", 0, party.clock(), party.release.release_id, 4)
    with store.transaction(durable=True):
        assert store.contributions.spend(entry, since=party.clock())
    with pytest.raises(SessionRefused, match="never masked again"):
        party.participants["device-1"].shares(delivery["device-1"])
    assert party.pending("device-1") == (1, 1)


@pytest.mark.parametrize(
    ("bounds", "refusal"),
    [
        ({"range_proofs": False}, r"asks for range proofs: set range_proofs in device\.toml"),
        ({"max_probe_store": 8 * PROBE_CAP - 1}, r"about at most \d+: raise max_probe_store in device\.toml"),
    ],
)
def test_range_proofs_beyond_the_devices_policy_are_refused_at_check_in_and_other_sums_go_on(party, bounds, refusal):
    proving(party)
    budget = ContributionBudget(max_probe_epsilon=EPSILON, **bounds)
    party.participants["device-1"].take_federation(replace(party.federation(), budget=budget))
    with pytest.raises(RefusedError, match=refusal):
        party.participants["device-1"].check_in(request_of(party.task("counts")))
    assert party.pending("device-1") == (1, 1)
    party.tasks = {}
    assert party.participants["device-1"].check_in(request_of(party.task("counts")))


def test_range_proofs_about_as_many_probes_as_the_policy_allows_are_made(party):
    proving(party)
    budget = ContributionBudget(max_probe_epsilon=EPSILON, max_probe_store=8 * PROBE_CAP)
    for name in party.names:
        party.participants[name].take_federation(replace(party.federation(), budget=budget))
    assert party.counts().new_seen.sum() == 10


def test_a_task_whose_cap_exceeds_what_can_be_stored_is_refused_at_check_in(party):
    proving(party, probe_cap=2**24, probe_store=2**20)
    with pytest.raises(SessionRefused, match="cannot prove counts of at most 16777216 fresh"):
        party.participants["device-1"].check_in(request_of(party.task("counts")))


@pytest.mark.parametrize("change", [{"period": -1}, {"period": 1}])
def test_only_the_current_period_by_the_devices_own_clock_is_accepted(party, change):
    party.clock.now += 120.0
    task = party.task("update")
    party.tasks = {"update": replace(task, period=task.period + change["period"])}
    with pytest.raises(RefusedError, match="by this device's clock it is"):
        party.check_in()


def test_what_leaves_a_little_after_its_period_is_counted_in_the_next_one_too(party):
    task = party.task("update")
    party.clock.now += DAY_S + 30.0
    party.tasks = {"update": task}
    party.run()
    party.tasks = {}
    assert party.check_in(attempt=2) == {}


def test_a_calendar_shorter_than_the_device_allows_is_refused_with_the_remedy(party):
    short = replace(party.federation(), calendar=Calendar(60.0))
    party.participants["device-1"].take_federation(short)
    with pytest.raises(RefusedError, match=r"periods last 60 s, .* from 3600 s on: lower min_period_s in device\.toml"):
        party.check_in()


@pytest.mark.parametrize(
    ("purpose", "change"),
    [
        ("update", {"purpose": "usage"}),
        ("usage", {"purpose": "update"}),
        ("counts", {"probe_cap": 1}),
        ("counts", {"probe_epsilon": 0.5}),
        ("counts", {"range_proofs": True, "probe_store": 2 * PROBE_CAP}),
        ("update", {"release_id": "f" * 64}),
        ("update", {"period": 1}),
    ],
)
def test_a_descriptor_that_asks_for_anything_else_than_the_check_in_is_refused(party, purpose, change):
    for name in party.names:
        party.stores[name].count({"answered.device.confident": 3})
    bundles = party.check_in(purpose=purpose)
    values = {"probe_epsilon": 0.0, "probe_cap": 0} if "purpose" in change else {}
    party.tasks = {purpose: replace(party.task(purpose), **values, **change)}
    messages = party.open_with(bundles, purpose=purpose)
    with pytest.raises(RefusedError, match=r"the descriptor's (task\.|number of)"):
        party.participants["device-1"].roster(messages["device-1"])


def test_a_second_descriptor_of_one_round_and_attempt_is_refused(party):
    bundles = party.check_in()
    first, second = party.open_with(bundles), party.open_with(bundles)
    party.participants["device-1"].roster(first["device-1"])
    with pytest.raises(FedgeError):
        party.participants["device-1"].roster(second["device-1"])
    bundles = party.check_in()  # a new check-in for the same pair
    with pytest.raises(RefusedError, match="not above the last accepted"):
        party.participants["device-1"].roster(party.open_with(bundles)["device-1"])


def test_the_privacy_ledger_says_what_left(party, queries):
    party.run()
    party.counts(2)
    party.teach_news(queries)
    party.run(round_number=3)
    counts, update = party.stores["device-2"].contributions.totals()
    assert (counts.purpose, counts.count, counts.epsilon) == ("counts", 1, EPSILON)
    assert (update.purpose, update.count, update.at) == ("update", 2, NOW + 2 * DAY_S)


def test_an_update_on_the_same_release_is_trained_anew_on_other_examples(party, queries):
    first = party.run()
    party.teach_news(queries)
    second = party.run(round_number=2)
    # Each learned one more, and leaves one of the old ones out.
    assert [UpdateLayout().decode(sums.integers).examples for sums in (first, second)] == [10, 10 + 4 - 4]
    assert party.survivors == 4
    assert not np.allclose(first.reals, second.reals)


@pytest.mark.parametrize("is_twin", [False, True])
def test_who_learned_nothing_since_the_last_update_stays_out_whatever_the_release(party, queries, release_key, is_twin):
    party.run()
    if is_twin:
        party.next_release(release_key)
    assert party.check_in(round_number=2) == {}
    party.teach("device-3", [(queries[9], "left")])
    assert list(party.check_in(round_number=3)) == ["device-3"]


def test_a_session_that_ends_before_masking_spends_nothing(party):
    party.share(party.open(purpose="counts"))
    sums = party.counts(attempt=2)
    assert (sums.running_seen, sums.running_disagreed) == (10, 4)


def test_an_update_session_spends_no_pairs_and_counts_use_no_memory(party):
    party.run()
    assert party.pending("device-4") == (4, 1)
    party.run(purpose="counts", attempt=2)
    assert party.used("device-4") == [1, 1, 1, 1]


def test_memory_is_used_when_the_vector_leaves_and_not_before(party):
    delivery = party.share(party.open())
    assert party.used("device-3") == [0, 0, 0]
    party.participants["device-3"].shares(delivery["device-3"])
    assert party.used("device-3") == [1, 1, 1]
    assert party.used("device-4") == [0, 0, 0, 0]


def test_a_revocation_list_over_a_week_old_keeps_a_device_out_of_sessions(party):
    week, issued = 7 * 86_400.0, {"at": NOW - 7 * 86_400.0 - 1}
    for name in party.names:
        device = party.participants[name]
        device.take_federation(replace(party.federation(), revocations_issued=lambda: issued["at"]))
    with pytest.raises(RefusedError, match=r"the revocation list of .* old"):
        party.share(party.open())
    issued["at"] = party.clock() - week
    party.run(attempt=2)


# Replays, retries and restarts.


def test_a_descriptor_under_another_round_key_is_refused_and_told_and_the_next_under_the_new_key_is_taken(party):
    told = []
    name = party.names[0]
    held = replace(party.federation(), round_key=Ed25519PrivateKey.generate().public_key())
    party.participants[name].take_federation(replace(held, unknown_round_key=lambda: told.append(1)))
    messages = party.open()
    with pytest.raises(UnknownRoundKey, match=r"signature \(descriptor\) does not verify"):
        party.participants[name].roster(messages[name])
    assert told == [1]
    party.participants[name].take_federation(replace(party.federation(), unknown_round_key=lambda: told.append(2)))
    party.participants[name].roster(party.open(attempt=2)[name])
    assert told == [1]


def test_the_same_request_again_gets_the_same_reply(party):
    device = party.participants["device-1"]
    roster = party.open()
    assert device.roster(roster["device-1"]) == device.roster(roster["device-1"])
    delivery = party.share(roster)
    assert device.shares(delivery["device-1"]) == device.shares(delivery["device-1"])
    consistency = party.mask(delivery)
    assert device.consistency(consistency["device-1"]) == device.consistency(consistency["device-1"])
    final = party.agree(consistency)
    assert device.unmask(final["device-1"]) == device.unmask(final["device-1"])
    party.reveal(final)


def test_a_repeated_request_for_the_vector_uses_the_memory_once(party):
    delivery = party.share(party.open())
    for _ in range(3):
        party.participants["device-2"].shares(delivery["device-2"])
    assert party.used("device-2") == [1, 1]


def test_a_second_set_of_sharers_gets_no_second_vector(party):
    roster = party.open()
    delivery = party.share(roster)
    party.participants["device-1"].shares(delivery["device-1"])
    other = party.participants["device-2"]
    with pytest.raises(FedgeError, match="masked already"):
        party.participants["device-1"].shares(delivery["device-2"])
    other.shares(delivery["device-2"])


def test_round_and_attempt_are_on_disk_before_the_shares_leave(party, monkeypatch):
    messages = party.open(attempt=3)
    sessions = party.stores["device-1"].sessions
    seen = []
    save = type(sessions).save

    def watching(self, slot, state):
        seen.append(self.last_accepted(FEDERATION))
        save(self, slot, state)

    monkeypatch.setattr(type(sessions), "save", watching)
    assert sessions.last_accepted(FEDERATION) is None
    party.participants["device-1"].roster(messages["device-1"])
    assert seen == [(1, 3)] and sessions.last_accepted(FEDERATION) == (1, 3)


def test_a_replayed_descriptor_is_refused_after_a_restart(party):
    messages = party.open()
    party.participants["device-1"].roster(messages["device-1"])
    party.restart("device-1")
    with pytest.raises(SessionRefused, match="restarted since"):
        party.participants["device-1"].roster(messages["device-1"])
    with pytest.raises(FedgeError, match="not above the last accepted"):  # checked in anew: the same pair is still spent
        party.share(party.open())
    party.run(attempt=2)


def test_a_device_that_restarts_after_check_in_drops_out_and_the_others_finish(party):
    messages = party.open()
    party.restart("device-2")
    for name, message in messages.items():
        if name == "device-2":
            with pytest.raises(SessionRefused, match="this device is in no session"):
                party.participants[name].roster(message)
        else:
            secagg.handle_roster_reply(party.server, name, party.participants[name].roster(message))
    delivery = secagg.create_share_messages(party.server)
    outcome = party.reveal(party.agree(party.mask(delivery)))
    assert outcome.survivors == ("device-1", "device-3", "device-4")
    assert party.used("device-2") == [0, 0]


def test_a_device_that_restarts_before_it_masked_masks_nothing(party):
    delivery = party.share(party.open(purpose="counts"))
    party.restart("device-4")
    with pytest.raises(SessionRefused, match="restarted since"):
        party.participants["device-4"].shares(delivery["device-4"])
    assert party.pending("device-4") == (4, 1)


def test_a_device_that_restarts_after_it_masked_still_helps_to_unmask(party):
    consistency = party.mask(party.share(party.open()))
    for name in party.names:
        party.restart(name)
    final = party.agree(consistency)
    for name in party.names:
        party.restart(name)
    assert len(party.reveal(final).survivors) == 4


def test_after_the_unmasking_no_secret_is_left(party):
    party.run()
    for name in party.names:
        state = party.state(name)
        assert (state.phase, state.secrets, state.held, state.vector) == (Phase.REVEALED, None, (), b"")


def test_a_check_in_alone_does_not_answer_later_steps(party):
    device = party.participants["device-1"]
    for step in (device.roster, device.shares, device.consistency, device.unmask):
        with pytest.raises(SessionRefused, match="in no session"):
            step(b"")
    party.check_in()
    with pytest.raises(SessionRefused, match="before a roster"):
        device.shares(b"")


# Deadlines.


@pytest.mark.parametrize("stage", ["shares", "consistency", "unmask"])
def test_past_the_deadline_secrets_are_erased_and_messages_refused(party, stage):
    messages = party.share(party.open())
    for step in ("shares", "consistency", "unmask"):
        if step == stage:
            break
        messages = party.mask(messages) if step == "shares" else party.agree(messages)
    party.clock.now += SESSION_S
    for _ in range(2):
        with pytest.raises(FedgeError, match="the device is erased"):
            getattr(party.participants["device-1"], stage)(messages["device-1"])
        state = party.state("device-1")
        assert (state.phase, state.secrets, state.held) == (Phase.ERASED, None, ())
        assert (state.vector, state.reply) == (b"", b"")
    if stage == "shares":
        assert party.used("device-1") == [0]


def test_a_second_before_the_deadline_the_session_goes_on(party):
    delivery = party.share(party.open())
    party.clock.now += SESSION_S - 1
    assert party.participants["device-1"].shares(delivery["device-1"])[1] is not None


def test_a_device_whose_session_expired_takes_part_in_the_next(party):
    party.share(party.open())
    party.clock.now += SESSION_S
    assert UpdateLayout().decode(party.run(attempt=2).integers).examples > 0


# What is refused, and how.


def test_a_release_other_than_the_one_asked_for_is_refused(party, make_release):
    other = make_release(scale=3.0, version=2)
    party.source.publish(other)
    fetch = party.source.fetch
    party.source.fetch = lambda release_id, have: fetch(party.release.release_id, have)
    with pytest.raises(VerificationError, match=r"asked for release [0-9a-f]{12}, was sent [0-9a-f]{12}"):
        party.participants["device-1"].check_in(request_of(task_of(other)))
    assert party.stores["device-1"].sessions.load(SLOT) is None


def test_a_descriptor_for_another_release_than_the_one_fetched_is_refused(party, make_release):
    other = make_release(scale=3.0, version=2)
    party.source.releases[other.release_id] = other
    bundles = party.check_in()
    _, messages = secagg.create_session(
        party.config("update"),
        bundles,
        round_key=ROUND_KEY,
        run=FEDERATION,
        round=1,
        attempt=1,
        task=task_of(other),
        verify_certificate=party._vouched,
        now=party.clock(),
        entropy=os.urandom,
    )
    with pytest.raises(FedgeError, match=r"the descriptor's task\.release_id is"):
        party.participants["device-1"].roster(messages["device-1"])
    assert party.phase("device-1") is Phase.BUNDLED
    assert party.stores["device-1"].sessions.last_accepted(FEDERATION) is None


@pytest.mark.parametrize("purpose", [0, 7])
def test_a_purpose_that_the_device_does_not_know_is_refused_by_number(party, purpose):
    request = rounds_pb2.CheckInRequest.FromString(request_of(party.task("update")))
    request.task.purpose = purpose
    request = request.SerializeToString()
    with pytest.raises(SessionRefused, match=f"a session of purpose {purpose} is unknown"):
        party.participants["device-1"].check_in(request)


def test_a_check_in_that_is_no_such_message_is_refused_in_one_line(party):
    with pytest.raises(SessionRefused, match="cannot be read"):
        party.participants["device-1"].check_in(b"\xff\xff\xff")


def test_what_a_session_costs_stands_in_the_ledger(party, queries):
    party.run()
    size = party.source.fetch(party.release.release_id, frozenset()).size_bytes
    ledger = party.stores["device-3"].ledger
    assert ledger.totals().quantity(Kind.DOWNLINK_RELEASES) == size
    energy_j = ledger.totals().quantity(Kind.DEVICE_TRAINING)
    assert energy_j > 0
    party.teach("device-3", [(queries[9], "left")])
    party.check_in(round_number=2)  # the release is there already: only the work is charged again
    assert ledger.lifetime().quantity(Kind.DOWNLINK_RELEASES) == size
    assert ledger.lifetime().quantity(Kind.DEVICE_TRAINING) == 2 * energy_j  # one more example, one old one less


# The Flower app around it.


@pytest.fixture
def ask_app(party) -> Callable[..., Message]:
    """One request to device-1's app over a `Grid`, and the message that comes back."""
    node = Node(build_client_app(party.participants["device-1"]), node_context(5))
    grid = InProcessGrid({5: node}, absent=lambda node, action, group: False)

    def ask(action: str, payload: object, *, name: str = PAYLOAD) -> Message:
        content = RecordDict({} if payload is None else {name: ConfigRecord({name: payload})})
        (reply,) = grid.send_and_receive([Message(content, 5, action, group_id="1.1")])
        return reply

    return ask


def payload_of(reply: Message) -> bytes:
    return reply.content.config_records[PAYLOAD][PAYLOAD]


def test_the_app_answers_a_step_with_bytes_and_the_vector_beside_them(party, ask_app):
    reply = ask_app("train.check_in", request_of(party.task("update")))
    response = rounds_pb2.CheckInResponse.FromString(payload_of(reply))
    assert response.device_id == "device-1" and response.bundle
    roster = party.open()
    reply = ask_app("query.roster", roster["device-1"])
    assert payload_of(reply) == party.participants["device-1"].roster(roster["device-1"])
    delivery = party.share(roster)
    reply = ask_app("query.shares", delivery["device-1"])
    vector = reply.content.array_records[VECTOR][VECTOR].data
    assert len(vector) == party.config("update").vector_bytes
    assert (payload_of(reply), vector) == party.participants["device-1"].shares(delivery["device-1"])
    consistency = party.mask(delivery)
    reply = ask_app("query.consistency", consistency["device-1"])
    assert VECTOR not in reply.content.array_records
    final = party.agree(consistency)
    reply = ask_app("query.unmask", final["device-1"])
    assert payload_of(reply) == party.participants["device-1"].unmask(final["device-1"])
    assert len(party.reveal(final).survivors) == 4


@pytest.fixture
def device_lines() -> Iterator[list[dict[str, Any]]]:
    """The device's log lines as JSON, as its process writes them."""
    lines: list[dict[str, Any]] = []
    form = logs.JsonLines("device")

    class Kept(logging.Handler):
        def emit(self, entry: logging.LogRecord) -> None:
            lines.append(json.loads(form.format(entry)))

    logger, kept = logging.getLogger("edge_client"), Kept()
    before = logger.level
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(kept)
    logger.setLevel(before)


def test_log_lines_of_a_session_bear_its_round_purpose_and_id_and_no_other_line_does(party, ask_app, device_lines):
    ask_app("train.check_in", request_of(party.task("update"), round_number=7, attempt=2))
    (checked_in,) = device_lines
    assert "session" not in checked_in  # it has none yet
    assert {name: checked_in[name] for name in ("part", "round", "attempt", "purpose")} == {
        "part": "device", "round": 7, "attempt": 2, "purpose": "update",
    }  # fmt: skip
    messages = party.open(round_number=7, attempt=2)
    ask_app("query.roster", messages["device-1"])
    delivery = party.share(messages)
    device_lines.clear()
    ask_app("query.shares", delivery["device-1"])
    ask_app("query.roster", b"not a roster")
    final = party.agree(party.mask(delivery))
    ask_app("query.unmask", final["device-1"])
    ids = {(line.get("round"), line.get("purpose"), line.get("session")) for line in device_lines if "round" in line}
    said = [line["message"] for line in device_lines]
    assert ids == {(7, "update", party.server.session_id.hex())}
    assert any("on its way" in line for line in said) and any("has ended" in line for line in said)
    assert any(line["level"] == "WARNING" and "round" in line and "exception" in line for line in device_lines)
    logging.getLogger("edge_client.rounds.participant").info("between sessions")
    assert not device_lines[-1].keys() & set(logs.FIELDS)


@pytest.mark.parametrize("action", ["train.check_in", "query.roster", "query.shares", "query.consistency", "query.unmask"])
def test_a_missing_or_oversize_payload_is_refused_in_one_line(ask_app, monkeypatch, action):
    monkeypatch.setattr(client_app, "MAX_PAYLOAD_BYTES", 100)
    replies = [
        ask_app(action, None),
        ask_app(action, "text"),
        ask_app(action, b"", name="other"),
        ask_app(action, bytes(101)),
    ]
    for reply in replies:
        assert reply.has_error() and reply.error.reason.startswith("SessionRefused: ") and "\n" not in reply.error.reason


def test_what_is_wrong_with_a_payload_is_said_in_words(monkeypatch):
    monkeypatch.setattr(client_app, "MAX_PAYLOAD_BYTES", 100)
    for content in ({}, {PAYLOAD: ConfigRecord({PAYLOAD: "text"})}, {"other": ConfigRecord({PAYLOAD: b""})}):
        with pytest.raises(SessionRefused, match="the request carries no payload"):
            client_app._payload(SimpleNamespace(content=RecordDict(content)))
    with pytest.raises(SessionRefused, match="the request has 101 bytes, more than 100"):
        client_app._payload(SimpleNamespace(content=RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: bytes(101)})})))


def test_a_rule_of_the_device_is_one_line_in_its_log_and_stays_there(caplog):
    """The rules are the device's own: the server learns the kind of error alone, the device's owner what to change."""
    said = "n_min is 2: this device takes part from 8 on"

    def refuse(_: bytes) -> bytes:
        raise RefusedError(said)

    with pytest.raises(SessionRefused, match=r"^the device refused: RefusedError$"), client_app._discreet():
        refuse(b"")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        participant_socket._send(ours, 0, b"")
        participant_socket._answer(SimpleNamespace(**{participant_socket.STEPS[0]: refuse}), theirs)
        assert participant_socket._receive(ours) == (participant_socket.REFUSAL, b"the device refused: RefusedError")
    found = [(said in record.getMessage(), record.exc_info) for record in caplog.records]
    assert found == [(True, None), (True, None)]


def test_a_device_trains_on_the_release_of_its_own_channel_only(party, make_release):
    """A twin that is offered, and that a check-in names, gets counts but no update."""
    twin = make_release(scale=3.0, version=2)
    party.source.releases[twin.release_id] = twin
    participant = party.participants["device-1"]
    with pytest.raises(SessionRefused, match=rf"release {twin.release_id[:12]} is not the one that this device is to run"):
        participant.check_in(request_of(task_of(twin)))
    participant.check_in(request_of(task_of(twin, purpose="counts")))
    party.source.publish(twin)
    participant.check_in(request_of(task_of(twin), attempt=2))


def test_one_example_makes_no_update_that_leaves(party):
    party.training_policy = TrainingPolicy()
    party.restart("device-1")  # has a single example
    with pytest.raises(SessionRefused, match="by its own rules"):
        party.participants["device-1"].check_in(request_of(party.task("update")))


def test_what_a_release_did_here_is_noted_once_its_update_has_left(party):
    assert party.stores["device-1"].training.last_fit() is None
    party.run()
    fit = party.stores["device-4"].training.last_fit()
    assert (fit.encoder_sha256, fit.examples) == (party.release.manifest.encoder_sha256, 4)
    assert 0 < fit.missed < 4


@pytest.mark.parametrize(
    ("name", "value"),
    [("architecture", '{"name":"dense-head-v9"}'), ("architecture", ""), ("encoder_sha256", "00" * 32)],
)
def test_a_task_that_names_another_architecture_or_base_is_refused(party, name, value):
    for purpose in ("update", "counts"):
        task = replace(party.task(purpose), **{name: value})
        with pytest.raises(RefusedError, match=rf"another {name.removesuffix('_sha256')} than the task names"):
            party.participants["device-4"].check_in(request_of(task))
