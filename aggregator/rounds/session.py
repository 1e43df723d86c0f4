"""One secure aggregation session driven over Flower messages: check-in, roster, shares, masked input, consistency, unmask.

The protocol itself is `fedge.secagg` (or its unmasked twin for `--plain`); this driver only carries its messages, drops who does
not answer in time and keeps the time of each phase. A message that the protocol refuses counts its sender out and never
ends a session that could finish without it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.rounds.link import DeviceLink, Exchange, Reply
from fedge.errors import FedgeError
from fedge.secagg import Outcome, PeerVerifier, SecAggError, SessionAborted, SessionConfig, decode
from fedge.secagg.codec import Decoded
from protos.fedge.rounds.v1 import rounds_pb2

CHECK_IN = "train.check_in"
ROSTER = "query.roster"
SHARES = "query.shares"
CONSISTENCY = "query.consistency"
UNMASK = "query.unmask"
MAX_DEVICE_ID = 128


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


@dataclass(slots=True)
class Tally:
    """What a session cost so far, whether it finishes or not: wall seconds by phase, bytes each way, who left and why."""

    seconds: dict[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    dropouts: dict[str, str] = field(default_factory=dict)

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
    record: bytes


class SessionDriver:
    """Runs sessions over one link. ``roles`` is the protocol's server side: `fedge.secagg.server` or `fedge.secagg.plain`."""

    def __init__(
        self,
        link: DeviceLink,
        roles: "ServerRoles",
        *,
        run: str,
        round_key: Ed25519PrivateKey,
        verifier: PeerVerifier,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._link = link
        self._roles = roles
        self._run = run
        self._round_key = round_key
        self._verifier = verifier
        self._clock = clock
        self._entropy = entropy

    def run(self, plan: SessionPlan, nodes: list[int], tally: Tally) -> SessionResult:
        """Steps 0 to 6 with ``nodes``. Raises SessionAborted when too few are left; ``tally`` is filled either way."""
        with tally.phase("check_in"):
            node_of, bundles = self._check_in(plan, nodes, tally)
        with tally.phase("share_keys"):
            state, roster = self._roles.create_session(
                plan.config,
                bundles,
                round_key=self._round_key,
                run=self._run,
                round_number=plan.round_number,
                attempt=plan.attempt,
                release_id=plan.release_id,
                weights_sha256=plan.weights_sha256,
                structure_sha256=plan.structure_sha256,
                verifier=self._verifier,
                now=self._clock(),
                entropy=self._entropy,
            )
            self._step(plan, tally, node_of, ROSTER, roster, lambda device, reply: state.handle_roster_reply(device, reply.payload))
        with tally.phase("masked_input"):
            messages = state.create_share_messages()
            self._step(
                plan, tally, node_of, SHARES, messages, lambda device, reply: state.handle_masked(device, reply.payload, reply.vector)
            )
        with tally.phase("consistency"):
            messages = state.create_consistency_messages()
            self._step(
                plan, tally, node_of, CONSISTENCY, messages, lambda device, reply: state.handle_consistency_reply(device, reply.payload)
            )
        with tally.phase("unmask"):
            messages = state.create_unmask_messages()
            self._step(
                plan, tally, node_of, UNMASK, messages, lambda device, reply: state.handle_unmask_reply(device, reply.payload)
            )
            outcome: Outcome = state.recover()
            decoded = decode(outcome.total, len(outcome.survivors), plan.config)
        return SessionResult(decoded, len(roster), len(outcome.survivors), outcome.record)

    def _check_in(self, plan: SessionPlan, nodes: list[int], tally: Tally) -> tuple[dict[str, int], dict[str, bytes]]:
        request = rounds_pb2.CheckInRequest(
            round=plan.round_number,
            attempt=plan.attempt,
            purpose=plan.purpose,
            release_id=plan.release_id,
            publication=plan.publication,
        ).SerializeToString()
        exchange = self._exchange(plan, tally, CHECK_IN, dict.fromkeys(nodes, request))
        node_of: dict[str, int] = {}
        bundles: dict[str, bytes] = {}
        for node in sorted(exchange.replies):
            response = rounds_pb2.CheckInResponse()
            try:
                response.ParseFromString(exchange.replies[node].payload)
            except Exception as error:  # protobuf's DecodeError has no common base across its implementations
                tally.dropouts[f"node {node}"] = f"check-in cannot be read: {error}"
                continue
            device = response.device_id
            if not 0 < len(device) <= MAX_DEVICE_ID or device in node_of:
                tally.dropouts[f"node {node}"] = "check-in under an unusable or repeated device id"
                continue
            node_of[device] = node
            bundles[device] = response.bundle
        return node_of, bundles

    def _step(
        self,
        plan: SessionPlan,
        tally: Tally,
        node_of: Mapping[str, int],
        action: str,
        messages: Mapping[str, bytes],
        handle: Callable[[str, Reply], None],
    ) -> None:
        exchange = self._exchange(plan, tally, action, {node_of[device]: message for device, message in messages.items()})
        for device in sorted(messages):
            reply = exchange.replies.get(node_of[device])
            if reply is None:
                tally.dropouts[device] = f"{action}: {exchange.failures.get(node_of[device], 'no answer in time')}"
                continue
            try:
                handle(device, reply)
            except SessionAborted:
                raise
            except SecAggError as error:
                tally.dropouts[device] = f"{action}: {error}"

    def _exchange(self, plan: SessionPlan, tally: Tally, action: str, requests: Mapping[int, bytes]) -> Exchange:
        group = f"{plan.round_number}.{plan.attempt}"
        exchange = self._link.exchange(action, requests, group=group, timeout_s=plan.timeout_s)
        tally.bytes_down += exchange.bytes_down
        tally.bytes_up += exchange.bytes_up
        return exchange
