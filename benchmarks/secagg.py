"""`fedge bench secagg`: our secure aggregation beside flwr's SecAgg+ primitives, CKKS, plain sums and the bare key stream.

Every case runs the real protocol on the complete graph, with real keys, signatures, certificates and shares. Figures are
medians of CPU seconds of this process (wall seconds where threads are compared); trust the ratios.
"""

import copy
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from benchmarks import secagg_peers as peers
from benchmarks.results import Result, cpu_median, wall_median
from fedge import secagg
from fedge.identity import certificates, issue_certificate, new_certificate_authority
from fedge.secagg import DevicePolicy, DeviceState, ServerState, SessionConfig, Task, Vector, keys
from fedge.secagg.masks import apply_masks
from fedge.secagg.rotation import rotated_scale

CASES: tuple[tuple[int, int], ...] = ((32, 100_000), (100, 1_000_000))
DROPOUTS: tuple[float, ...] = (0.0, 0.01, 0.1)
BITS: tuple[int, ...] = (32, 16)
CLINC150_VECTOR = 20_000
"""Coordinates of an update on clinc150, rounded: what `bytes.update` of a run comes to for each device."""
PER_CALL = "time of one call times the number of calls"
NOW = 1_000_000.0
TASK = Task(purpose="update", period=1, release_id="1" * 64, weights_sha256="2" * 64, structure_sha256="3" * 64)


class Cohort:
    """``n`` devices with certified identities and a server, taken through one session step by step."""

    def __init__(self, n: int, m: int, bits: int) -> None:
        self.names = [f"device-{i:03d}" for i in range(n)]
        self.identity = {name: Ed25519PrivateKey.generate() for name in self.names}
        begin, end = NOW - 1, NOW + 86_400
        self.authority = new_certificate_authority("benchmark", not_before=begin, not_after=end)
        ca_key = self.authority.private_key
        self.certificate = {
            name: issue_certificate(ca_key, "benchmark", name, key.public_key(), not_before=begin, not_after=end)
            for name, key in self.identity.items()
        }
        self.round_key = Ed25519PrivateKey.generate()
        self.config = SessionConfig(
            reals=m - 1, integers=0, bits=bits, cohort_max=n, scale=rotated_scale(1.0, m - 1),
            clip_norm=1.0, weight_cap=10, n_min=8, deadline=NOW + 600,
        )  # fmt: skip
        self.vector = secagg.encode(np.zeros(m - 1), np.zeros(0, dtype=int), self.config, bytes(32))
        self.states: dict[str, DeviceState] = {}

    def policy(self) -> DevicePolicy:
        return DevicePolicy(
            round_key=self.round_key.public_key(), verify_certificate=self.verify, revoked=frozenset(), federation="bench",
            last_accepted=None, task=TASK,
            reals=self.config.reals, integers=0, clip_norm=1.0, weight_cap=10, now=NOW,
        )  # fmt: skip

    def verify(self, der: bytes) -> tuple[str, Ed25519PublicKey]:
        return certificates.verify_certificate(der, self.authority.private_key.public_key(), NOW)

    def check_in(self, name: str) -> tuple[DeviceState, bytes]:
        return secagg.create_bundle(
            self.identity[name], name, self.certificate[name], now=NOW, expires=NOW + 600, entropy=os.urandom
        )

    def open(self) -> tuple[ServerState, dict[str, bytes]]:
        bundles = {}
        for name in self.names:
            self.states[name], bundles[name] = self.check_in(name)
        return secagg.create_session(
            self.config, bundles, round_key=self.round_key, run="bench", round=1, attempt=1, task=TASK,
            verify_certificate=self.verify, now=NOW, entropy=os.urandom,
        )  # fmt: skip

    def share(self, server: ServerState, roster: dict[str, bytes]) -> dict[str, bytes]:
        for name, message in roster.items():
            self.states[name], reply = secagg.handle_roster(self.states[name], message, self.policy())
            secagg.handle_roster_reply(server, name, reply)
        return secagg.create_share_messages(server)

    def masked(self, delivery: dict[str, bytes]) -> Iterator[tuple[str, bytes, Vector]]:
        """Replies and vectors, one device after another; states are kept without their copy of the vector."""
        for name, message in delivery.items():
            state, reply, vector = secagg.handle_shares(self.states[name], message, self.vector)
            assert vector is not None
            self.states[name] = state
            yield name, reply, vector

    def agree(self, server: ServerState, consistency: dict[str, bytes]) -> dict[str, bytes]:
        for name, message in consistency.items():
            self.states[name], reply = secagg.handle_consistency(self.states[name], message)
            secagg.handle_consistency_reply(server, name, reply)
        return secagg.create_unmask_messages(server)

    def unmask(self, server: ServerState, requests: dict[str, bytes]) -> None:
        for name, message in requests.items():
            _, reply = secagg.handle_unmask(self.states[name], message)
            secagg.handle_unmask_reply(server, name, reply)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A cohort whose session stands before recovery, and what was measured on the way."""

    server: ServerState
    session_peak_bytes: int


def benchmark(
    *, stage: Callable[[str], None], cases: tuple[tuple[int, int], ...] = CASES, repetitions: int = 3
) -> list[Result]:
    """All cases; ``stage`` is told what runs now."""
    results = []
    for n, m in cases:
        stage(f"flwr and CKKS on their own functions, n = {n}, m = {m}")
        flower, ckks = peers.flower_costs(n, m, repetitions), peers.ckks_costs(n, m, repetitions)
        for bits in BITS:
            stage(f"masks, n = {n}, m = {m}, {bits} bits")
            results += masks(n, m, bits, repetitions)
            stage(f"a device, n = {n}, m = {m}, {bits} bits")
            results += device(n, m, bits, repetitions, flower, ckks)
            for dropout in DROPOUTS:
                stage(f"the server, n = {n}, m = {m}, {bits} bits, {dropout:.0%} dropouts")
                results += server(n, m, bits, dropout, repetitions, flower, ckks)
    stage("a device's session in a cohort of 32 on clinc150, by step")
    return [*results, session_by_step(repetitions)]


def masks(n: int, m: int, bits: int, repetitions: int) -> list[Result]:
    """Expansion and addition of n streams against the bare key stream, and what a second thread brings."""
    mask_keys = [os.urandom(32) for _ in range(n)]
    vector = np.zeros(m, dtype=f"<u{bits // 8}")

    def run(threads: int) -> None:
        apply_masks(vector, added=mask_keys[: n // 2], subtracted=mask_keys[n // 2 :], threads=threads)

    case = {"n": n, "k": n - 1, "m": m, "bits": bits, "threads": 1}
    bare = peers.key_stream_seconds(n, vector.nbytes, repetitions)
    ours = cpu_median(lambda: run(1), repetitions)
    one, two = wall_median(lambda: run(1), repetitions), wall_median(lambda: run(2), repetitions)
    return [
        Result(bench="secagg.masks", case=case, unit="s", ours=ours, peers={"keystream": bare}, repetitions=repetitions),
        Result(
            bench="secagg.masks",
            case={**case, "threads": 2},
            unit="s (wall)",
            ours=two,
            peers={"one_thread": one},
            repetitions=repetitions,
        ),
    ]


def device(
    n: int, m: int, bits: int, repetitions: int, flower: peers.FlowerCosts, ckks: dict[str, float] | None
) -> list[Result]:
    """All that one device does in a session, and what it uploads."""
    cohort = Cohort(n, m, bits)
    server_state, roster = cohort.open()
    name = cohort.names[n // 2]
    fresh = cohort.states[name]
    delivery = cohort.share(server_state, roster)
    sizes: list[int] = []

    def run() -> None:
        _forget()
        state, bundle = cohort.check_in(name)
        state, dealt = secagg.handle_roster(fresh, roster[name], cohort.policy())
        state, reply, vector = secagg.handle_shares(state, delivery[name], cohort.vector)
        assert vector is not None
        sizes[:] = [len(bundle) + len(dealt) + len(reply), vector.nbytes]

    case = {"n": n, "k": n - 1, "m": m, "dropout": 0.0, "bits": bits, "threads": 1}
    ours = cpu_median(run, repetitions)
    beside = {"flwr": flower.client(), "keystream": peers.key_stream_seconds(n, m * bits // 8, repetitions)}
    upload = {"flwr": float(8 * m), "plain": float(4 * m)}
    labels = {"flwr": PER_CALL}
    if ckks is not None:
        beside["ckks"], upload["ckks"], labels["ckks"] = ckks["client"], ckks["upload"], "one ciphertext times their number"
    return [
        Result(bench="secagg.client", case=case, unit="s", ours=ours, peers=beside, repetitions=repetitions, labels=labels),
        Result(
            bench="secagg.upload",
            case=case,
            unit="bytes",
            ours=float(sum(sizes)),
            peers=upload,
            repetitions=1,
            labels={"flwr": "8 bytes a value", "plain": "float32"},
            detail={"vector": float(sizes[1]), "messages": float(sizes[0])},
        ),
    ]


def server(
    n: int,
    m: int,
    bits: int,
    dropout: float,
    repetitions: int,
    flower: peers.FlowerCosts,
    ckks: dict[str, float] | None,
) -> list[Result]:
    """Recovery of the sum from a real session, and the memory that the server took over all of it."""
    dropped = round(dropout * n)
    prepared = before_recovery(n, m, bits, dropped)
    copies = iter([copy.deepcopy(prepared.server) for _ in range(repetitions)])
    case = {"n": n, "k": n - 1, "m": m, "dropout": dropout, "bits": bits, "threads": 1}
    alive = n - dropped
    streams = alive + dropped * alive
    beside = {
        "flwr": flower.server(dropped),
        "keystream": peers.key_stream_seconds(streams, m * bits // 8, 1),
        "plain": peers.plain_seconds(n, m, repetitions),
    }
    labels = {"flwr": PER_CALL}
    if ckks is not None and not dropped:
        beside["ckks"], labels["ckks"] = ckks["server"], "one ciphertext times their number"
    ours = cpu_median(lambda: secagg.recover(next(copies)), repetitions)
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]
    secagg.recover(prepared.server)
    recovery_peak = tracemalloc.get_traced_memory()[1] - base
    tracemalloc.stop()
    vector_bytes = m * bits // 8
    return [
        Result(bench="secagg.server", case=case, unit="s", ours=ours, peers=beside, repetitions=repetitions, labels=labels),
        Result(
            bench="secagg.memory",
            case=case,
            unit="vectors above the running sum",
            ours=max(prepared.session_peak_bytes, recovery_peak) / vector_bytes,
            peers={"plain": 1.0},
            repetitions=1,
            labels={"plain": "the one update that is being added"},
        ),
    ]


def before_recovery(n: int, m: int, bits: int, dropped: int) -> Prepared:
    """A real session, up to the last share. The last ``dropped`` devices share and never deliver."""
    cohort = Cohort(n, m, bits)
    state, roster = cohort.open()
    delivery = cohort.share(state, roster)
    lost = set(cohort.names[n - dropped :])
    peak = 0
    for name, reply, vector in cohort.masked({name: delivery[name] for name in cohort.names if name not in lost}):
        raw = vector.tobytes()
        tracemalloc.start()
        secagg.handle_masked(state, name, reply, raw)
        peak = max(peak, tracemalloc.get_traced_memory()[1] + len(raw))
        tracemalloc.stop()
    cohort.unmask(state, cohort.agree(state, secagg.create_consistency_messages(state)))
    return Prepared(state, peak)


def session_by_step(repetitions: int) -> Result:
    """CPU milliseconds of one device at n = 32, by step of the protocol; signatures and certificates are checked anew."""
    cohort = Cohort(32, CLINC150_VECTOR, 32)
    state, roster = cohort.open()
    name = cohort.names[0]
    fresh = cohort.states[name]
    delivery = cohort.share(state, roster)
    for each, reply, vector in cohort.masked(delivery):
        secagg.handle_masked(state, each, reply, vector)
    consistency = secagg.create_consistency_messages(state)
    unmask = cohort.agree(state, consistency)
    runs: dict[str, list[float]] = {}

    def timed(step: str, run: Callable[..., Any], *arguments: Any) -> Any:
        started = time.process_time()
        result = run(*arguments)
        runs.setdefault(step, []).append(1000 * (time.process_time() - started))
        return result

    for _ in range(max(5, repetitions)):
        _forget()
        timed("check_in", cohort.check_in, name)
        own, _ = timed("share_keys", secagg.handle_roster, fresh, roster[name], cohort.policy())
        own, _, _ = timed("masked_input", secagg.handle_shares, own, delivery[name], cohort.vector)
        own, _ = timed("consistency", secagg.handle_consistency, own, consistency[name])
        timed("unmask", secagg.handle_unmask, own, unmask[name])
    detail = {step: float(np.median(times)) for step, times in runs.items()}
    case = {"n": 32, "k": 31, "m": CLINC150_VECTOR, "bits": 32, "threads": 1, "workload": "clinc150"}
    return Result(
        bench="secagg.session",
        case=case,
        unit="ms",
        ours=sum(detail.values()),
        peers={},
        repetitions=max(5, repetitions),
        detail=detail,
    )


def _forget() -> None:
    """One process plays all devices and would remember what another one verified: a device verifies by itself."""
    keys.forget_verified()
    certificates.forget_vouched()
