"""One secure aggregation session driven over Flower messages: check-in, roster, shares, masked input, consistency, unmask.

The protocol itself is `fedge.secagg` (or its unmasked twin for `--plain`); this driver only carries its messages, drops who
does not answer in time and keeps the time of each phase. A message that the protocol refuses counts its sender out and
never ends a session that could finish without it.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.rounds.link import DeviceLink, Exchange, Reply
from fedge.errors import InputError
from fedge.identity import check_device_id
from fedge.secagg import (
    CertificateVerifier,
    Decoded,
    Outcome,
    SecAggError,
    ServerState,
    SessionAborted,
    SessionConfig,
    decode,
)
from protos.fedge.rounds.v1 import rounds_pb2

CHECK_IN = "train.check_in"
ROSTER = "query.roster"
SHARES = "query.shares"
CONSISTENCY = "query.consistency"
UNMASK = "query.unmask"
NO_ANSWER = "no answer in time"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """What one session sums, and under which release."""

    round_number: int
    attempt: int
    purpose: "rounds_pb2.Purpose"
    release_id: str
    weights_sha256: str
    structure_sha256: str
    publication: int
    config: SessionConfig
    timeout_s: float
    canary: str = ""
    """The release on the canary, where the session is about one."""


@dataclass(slots=True)
class Tally:
    """What sessions cost so far, finished or not: wall seconds by phase, bytes each way, who left and why.

    ``excluded``: nodes that an aborted session blames; the next attempt goes without them.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_vectors: int = 0
    dropouts: list[tuple[str, str]] = field(default_factory=list)
    excluded: set[int] = field(default_factory=set)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to ``name``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class SessionResult:
    """The sum of a finished session and the counts that a round reports."""

    decoded: Decoded
    cohort: int
    survivors: int
    session_id: bytes
    record: bytes


@dataclass(frozen=True, slots=True)
class _Step:
    """What the steps of one session have in common."""

    plan: SessionPlan
    tally: Tally
    node_of: Mapping[str, int]


class ServerRoles(Protocol):
    """The protocol's server side: `fedge.secagg`, or `fedge.secagg.plain` for runs where nothing is private."""

    def create_session(
        self,
        config: SessionConfig,
        bundles: Mapping[str, bytes],
        *,
        round_key: Ed25519PrivateKey,
        run: str,
        round: int,
        attempt: int,
        release_id: str,
        weights_sha256: str,
        structure_sha256: str,
        verify_certificate: CertificateVerifier,
        now: float,
        entropy: Callable[[int], bytes],
    ) -> tuple[ServerState, dict[str, bytes]]:
        """Step 1: the cohort and its roster messages."""

    def handle_roster_reply(self, state: ServerState, device_id: str, reply: bytes) -> None:
        """Step 2: a dealing."""

    def create_share_messages(self, state: ServerState) -> dict[str, bytes]:
        """Step 3: what the others dealt, to each sharer."""

    def handle_masked(self, state: ServerState, device_id: str, reply: bytes, vector: bytes | None) -> None:
        """Step 3: a masked vector or a complaint."""

    def create_consistency_messages(self, state: ServerState) -> dict[str, bytes]:
        """Step 4: who delivered, to each of them."""

    def handle_consistency_reply(self, state: ServerState, device_id: str, reply: bytes) -> None:
        """Step 4: a signature on it."""

    def create_unmask_messages(self, state: ServerState) -> dict[str, bytes]:
        """Step 5: enough signatures, to each who signed."""

    def handle_unmask_reply(self, state: ServerState, device_id: str, reply: bytes) -> None:
        """Step 5: a device's shares."""

    def recover(self, state: ServerState, *, threads: int = 1) -> Outcome:
        """Step 6: the sum."""


class SessionDriver:
    """Runs sessions of the run ``run`` over one link.

    ``owner`` names the device that a node was enrolled for: one that answers as another is refused, and blamed. Without it
    (in simulation, where nodes are our own) a device's signature alone decides.
    """

    def __init__(
        self,
        link: DeviceLink,
        roles: ServerRoles,
        *,
        run: str,
        round_key: Ed25519PrivateKey,
        verify_certificate: CertificateVerifier,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        owner: Callable[[int], str | None] | None = None,
    ) -> None:
        self._link = link
        self._roles = roles
        self._run = run
        self._round_key = round_key
        self._verify_certificate = verify_certificate
        self._clock = clock
        self._entropy = entropy
        self._owner = owner

    def run(self, plan: SessionPlan, nodes: Sequence[int], tally: Tally) -> SessionResult:
        """Steps 0 to 6 with ``nodes``. Raises SessionAborted when too few are left; ``tally`` is filled either way."""
        node_of: dict[str, int] = {}
        try:
            return self._run_steps(plan, nodes, tally, node_of)
        except SessionAborted as aborted:
            tally.excluded |= {node_of[device] for device in aborted.exclude if device in node_of}
            raise

    def _run_steps(self, plan: SessionPlan, nodes: Sequence[int], tally: Tally, node_of: dict[str, int]) -> SessionResult:
        roles = self._roles
        with tally.phase("check_in"):
            bundles = self._check_in(plan, nodes, tally, node_of)
        with tally.phase("share_keys"):
            state, roster = roles.create_session(
                plan.config,
                bundles,
                round_key=self._round_key,
                run=self._run,
                round=plan.round_number,
                attempt=plan.attempt,
                release_id=plan.release_id,
                weights_sha256=plan.weights_sha256,
                structure_sha256=plan.structure_sha256,
                verify_certificate=self._verify_certificate,
                now=self._clock(),
                entropy=self._entropy,
            )
            tally.dropouts += [(device, f"roster: {error}") for device, error in state.refused.items()]
            step = _Step(plan, tally, node_of)
            self._exchange_step(step, ROSTER, roster, lambda d, r: roles.handle_roster_reply(state, d, r.payload))
        with tally.phase("masked_input"):
            messages = roles.create_share_messages(state)
            self._exchange_step(step, SHARES, messages, lambda d, r: roles.handle_masked(state, d, r.payload, r.vector))
        with tally.phase("consistency"):
            messages = roles.create_consistency_messages(state)
            self._exchange_step(
                step, CONSISTENCY, messages, lambda d, r: roles.handle_consistency_reply(state, d, r.payload)
            )
        with tally.phase("unmask"):
            messages = roles.create_unmask_messages(state)
            self._exchange_step(step, UNMASK, messages, lambda d, r: roles.handle_unmask_reply(state, d, r.payload))
            outcome = roles.recover(state, threads=os.cpu_count() or 1)
            decoded = decode(outcome.total, len(outcome.survivors), plan.config)
        return SessionResult(decoded, len(roster), len(outcome.survivors), state.session_id, outcome.record)

    def _check_in(self, plan: SessionPlan, nodes: Sequence[int], tally: Tally, node_of: dict[str, int]) -> dict[str, bytes]:
        request = rounds_pb2.CheckInRequest(
            round=plan.round_number,
            attempt=plan.attempt,
            purpose=plan.purpose,
            release_id=plan.release_id,
            publication=plan.publication,
            canary_release_id=plan.canary,
        ).SerializeToString()
        payloads: dict[int, bytes] = {}
        requests = dict.fromkeys(nodes, request)
        exchange = self._exchange(plan, tally, CHECK_IN, requests, lambda node, r: payloads.update({node: r.payload}))
        bundles: dict[str, bytes] = {}
        for node in sorted(set(nodes) - exchange.answered):
            tally.dropouts.append((f"node {node}", f"check-in: {exchange.failures.get(node, NO_ANSWER)}"))
        for node in sorted(payloads):
            response = rounds_pb2.CheckInResponse()
            try:
                response.ParseFromString(payloads[node])
            except Exception as error:  # protobuf's DecodeError has no common base across its implementations
                tally.dropouts.append((f"node {node}", f"check-in: it cannot be read: {error}"))
                continue
            device = response.device_id
            if self._owner is not None and device != (enrolled := self._owner(node)):
                # Before anything else, so that the device whose name was taken keeps its own place.
                tally.dropouts.append((enrolled or f"node {node}", "check-in: it claims to be another device"))
                tally.excluded.add(node)
                continue
            if not _usable(device) or device in node_of:
                tally.dropouts.append((f"node {node}", "check-in: an unusable or repeated device id"))
                continue
            node_of[device] = node
            bundles[device] = response.bundle
        return bundles

    def _exchange_step(
        self, step: "_Step", action: str, messages: Mapping[str, bytes], handle: Callable[[str, Reply], None]
    ) -> None:
        """Send each device its message and hand its reply to the protocol; who does not answer, or wrongly, is noted."""
        device_of = {step.node_of[device]: device for device in messages}
        refused: dict[str, str] = {}

        def take(node: int, reply: Reply) -> None:
            try:
                handle(device_of[node], reply)
            except SecAggError as error:
                refused[device_of[node]] = str(error)

        requests = {step.node_of[device]: message for device, message in messages.items()}
        exchange = self._exchange(step.plan, step.tally, action, requests, take)
        for device in sorted(messages):
            node = step.node_of[device]
            if node not in exchange.answered:
                refused[device] = exchange.failures.get(node, NO_ANSWER)
            if device in refused:
                step.tally.dropouts.append((device, f"{action}: {refused[device]}"))

    def _exchange(
        self,
        plan: SessionPlan,
        tally: Tally,
        action: str,
        requests: Mapping[int, bytes],
        take: Callable[[int, Reply], None],
    ) -> Exchange:
        group = f"{plan.round_number}.{plan.attempt}"
        exchange = self._link.exchange(action, requests, take, group=group, timeout_s=plan.timeout_s)
        tally.bytes_down += exchange.bytes_down
        tally.bytes_up += exchange.bytes_up
        tally.bytes_vectors += exchange.bytes_vectors
        return exchange


def _usable(device_id: str) -> bool:
    """Whether a name that nothing has vouched for yet may stand in logs and in the database."""
    try:
        check_device_id(device_id)
    except InputError:
        return False
    return True
