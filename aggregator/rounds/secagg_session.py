"""One secure aggregation session driven over Flower messages: check-in, roster, shares, masked input, consistency, unmask.

The protocol itself is `fedge.secagg` (or its unmasked twin for `--plain`); this driver only carries its messages, drops who
does not answer in time and keeps the time of each phase. A message that the protocol refuses counts its sender out and
never ends a session that could finish without it.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from aggregator.rounds.interfaces import NoProgress, Phase, Place, ProgressLog
from aggregator.rounds.transport import MAX_REASON, DeviceLink, Exchange, Reply
from fedge import logs
from fedge.errors import InputError
from fedge.identity import check_device_id
from fedge.secagg import (
    CertificateVerifier,
    Decoded,
    MessageError,
    Outcome,
    RangeClaim,
    RefusedError,
    SecAggError,
    ServerState,
    SessionAborted,
    SessionConfig,
    Task,
    decode,
    sign_descriptor,
)
from fedge.secagg.rotation import rotation_seed
from protos.fedge.rounds.v1 import rounds_pb2

_log = logging.getLogger(__name__)

CHECK_IN = "train.check_in"
ROSTER = "query.roster"
SHARES = "query.shares"
CONSISTENCY = "query.consistency"
UNMASK = "query.unmask"
NO_ANSWER = "no answer in time"
UNUSABLE = "an unusable or repeated device id"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """One attempt at a session: what it sums, and how its vectors look."""

    round_number: int
    attempt: int
    task: Task
    config: SessionConfig
    timeout_s: float
    claim: RangeClaim | None = None
    """What devices prove of their vectors, where the task asks for it."""

    @property
    def place(self) -> Place:
        """Which attempt this is."""
        return Place(self.round_number, self.attempt, self.task.purpose)


@dataclass(slots=True)
class Tally:
    """What sessions cost so far, finished or not: wall seconds by phase, bytes each way, who left and why. ``roster``: who
    stood on the last session's, once there was one.

    ``refusals`` counts the messages that were refused, by the name of the error. ``excluded``: nodes that an aborted session
    blames; the next attempt goes without them. ``idle``: nodes that had nothing to report to the last session.
    ``delivered``: purposes with nodes whose vector left for them in this round, in an aborted session too: those have
    nothing left. ``survivors``: the devices whose vectors the last session summed, once that was known. ``node_of``: the
    nodes of the devices that checked in to it.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_vectors: int = 0
    roster: tuple[str, ...] = ()
    dropouts: list[tuple[str, str]] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    excluded: set[int] = field(default_factory=set)
    idle: set[int] = field(default_factory=set)
    delivered: set[tuple[str, int]] = field(default_factory=set)
    survivors: tuple[str, ...] = ()
    node_of: Mapping[str, int] = field(default_factory=dict)

    def drop(self, who: str, stage: str, why: str | SecAggError) -> None:
        """Note that ``who`` left at ``stage``: it was silent or failed (a text), or what it sent was refused (an error)."""
        self.dropouts.append((who, f"{stage}: {str(why)[:MAX_REASON]}"))
        if isinstance(why, SecAggError):
            self.refusals[type(why).__name__] += 1

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
    contribution: bytes
    """What the session adds to the beacon of the next period."""
    rotation_seed: bytes
    """Of the rotation of this session's updates."""
    descriptor: bytes = b""
    """The session's descriptor as the round key signed it, with the signature."""
    signature: bytes = b""


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
        task: Task,
        verify_certificate: CertificateVerifier,
        now: float,
        entropy: Callable[[int], bytes],
        claim: RangeClaim | None = None,
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
        progress: ProgressLog | None = None,
    ) -> None:
        self._link = link
        self._roles = roles
        self._run = run
        self._round_key = round_key
        self._verify_certificate = verify_certificate
        self._clock = clock
        self._entropy = entropy
        self._owner = owner
        self._progress = progress or NoProgress()

    def run(self, plan: SessionPlan, nodes: Sequence[int], tally: Tally) -> SessionResult:
        """Steps 0 to 6 with ``nodes``. Raises SessionAborted when too few are left; ``tally`` is filled either way."""
        node_of: dict[str, int] = {}
        tally.roster, tally.idle, tally.survivors, tally.node_of = (), set(), (), node_of
        try:
            with logs.context(attempt=plan.attempt, purpose=plan.place.purpose):
                return self._run_steps(plan, nodes, tally, node_of)
        except SessionAborted as aborted:
            tally.excluded |= {node_of[device] for device in aborted.exclude if device in node_of}
            raise

    def _run_steps(self, plan: SessionPlan, nodes: Sequence[int], tally: Tally, node_of: dict[str, int]) -> SessionResult:
        roles, config = self._roles, plan.config
        phase = partial(self._phase, plan, tally)
        with phase("check_in", "train", expected=len(nodes), needed=config.n_min) as reported:
            bundles = self._check_in(plan, nodes, tally, node_of, reported)
        if len(bundles) < config.n_min and tally.idle:
            reason = f"{len(bundles)} devices have something to report ({len(tally.idle)} do not); {config.n_min} are needed"
            raise SessionAborted("check-in", reason)
        with phase("share_keys", "keys", expected=len(bundles), needed=config.n_min) as reported:
            state, roster = roles.create_session(
                config,
                bundles,
                round_key=self._round_key,
                run=self._run,
                round=plan.round_number,
                attempt=plan.attempt,
                task=plan.task,
                verify_certificate=self._verify_certificate,
                now=self._clock(),
                entropy=self._entropy,
                claim=plan.claim,
            )
            reported(len(roster))
        tally.roster = tuple(sorted(roster))
        logs.bind(session=state.session_id.hex())
        _log.info("a session begins with %d devices", len(roster))
        for device, error in state.refused.items():
            self._drop(plan, tally, device, "roster", error)
        step, quorum = _Step(plan, tally, node_of), config.threshold(len(roster))
        cohort = max(quorum, config.n_min)
        with phase("share_keys", "shares", expected=len(roster), needed=cohort) as reported:
            self._exchange_step(step, ROSTER, roster, lambda d, r: roles.handle_roster_reply(state, d, r.payload), reported)
        with tally.phase("masked_input"):
            messages = roles.create_share_messages(state)
        with phase("masked_input", "masked_upload", expected=len(messages), needed=cohort) as reported:
            def take_vector(device: str, reply: Reply) -> None:
                roles.handle_masked(state, device, reply.payload, reply.vector)
                tally.delivered.add((plan.task.purpose, node_of[device]))

            self._exchange_step(step, SHARES, messages, take_vector, reported)
        with tally.phase("consistency"):
            messages = roles.create_consistency_messages(state)
        tally.survivors = tuple(sorted(messages))
        with phase("consistency", "consistency", expected=len(messages), needed=quorum) as reported:
            self._exchange_step(
                step, CONSISTENCY, messages, lambda d, r: roles.handle_consistency_reply(state, d, r.payload), reported
            )
        with tally.phase("unmask"):
            messages = roles.create_unmask_messages(state)
        with phase("unmask", "unmask", expected=len(messages), needed=quorum) as reported:
            self._exchange_step(
                step, UNMASK, messages, lambda d, r: roles.handle_unmask_reply(state, d, r.payload), reported
            )
            outcome = roles.recover(state, threads=os.cpu_count() or 1)
            decoded = decode(outcome.total, len(outcome.survivors), config)
        descriptor = state.session.descriptor_bytes
        rotation = rotation_seed(plan.task.release_id, plan.round_number, plan.attempt)
        return SessionResult(
            decoded,
            len(roster),
            len(outcome.survivors),
            state.session_id,
            outcome.record,
            outcome.contribution,
            rotation,
            descriptor,
            sign_descriptor(self._round_key, descriptor),
        )

    @contextmanager
    def _phase(
        self, plan: SessionPlan, tally: Tally, name: str, phase: Phase, *, expected: int, needed: int
    ) -> Iterator[Callable[[int], None]]:
        """The time of the block goes to the tally's ``name``; who watches is told of ``phase``."""
        with (
            tally.phase(name),
            logs.context(phase=phase),
            self._progress.phase(plan.place, phase, expected=expected, needed=needed) as reported,
        ):
            yield reported

    def _check_in(
        self,
        plan: SessionPlan,
        nodes: Sequence[int],
        tally: Tally,
        node_of: dict[str, int],
        reported: Callable[[int], None],
    ) -> dict[str, bytes]:
        request = rounds_pb2.CheckInRequest(
            round=plan.round_number, attempt=plan.attempt, task=plan.task.to_message()
        ).SerializeToString()
        payloads: dict[int, bytes] = {}

        def take(node: int, reply: Reply) -> None:
            payloads[node] = reply.payload
            reported(len(payloads))

        exchange = self._exchange(plan, tally, CHECK_IN, dict.fromkeys(nodes, request), take)
        bundles: dict[str, bytes] = {}
        for node in sorted(set(nodes) - exchange.answered):
            self._drop(plan, tally, f"node {node}", "check-in", _why(exchange, node))
        for node in sorted(payloads):
            try:
                device, bundle = _read_check_in(payloads[node])
            except MessageError as error:
                self._drop(plan, tally, f"node {node}", "check-in", error)
                continue
            if self._owner is not None and device != (enrolled := self._owner(node)):
                # Before anything else, so that the device whose name was taken keeps its own place.
                self._drop(
                    plan, tally, enrolled or f"node {node}", "check-in", RefusedError("it claims to be another device")
                )
                tally.excluded.add(node)
                continue
            if device in node_of:
                self._drop(plan, tally, f"node {node}", "check-in", MessageError(UNUSABLE))
                continue
            if bundle is None:
                tally.idle.add(node)
                continue
            node_of[device] = node
            bundles[device] = bundle
        return bundles

    def _exchange_step(
        self,
        step: "_Step",
        action: str,
        messages: Mapping[str, bytes],
        handle: Callable[[str, Reply], None],
        reported: Callable[[int], None],
    ) -> None:
        """Send each device its message and hand its reply to the protocol; who does not answer, or wrongly, is noted."""
        device_of = {step.node_of[device]: device for device in messages}
        refused: dict[str, str | SecAggError] = {}
        good: set[int] = set()

        def take(node: int, reply: Reply) -> None:
            try:
                handle(device_of[node], reply)
            except SecAggError as error:
                refused[device_of[node]] = error
                return
            good.add(node)
            reported(len(good))

        requests = {step.node_of[device]: message for device, message in messages.items()}
        exchange = self._exchange(step.plan, step.tally, action, requests, take)
        for device in sorted(messages):
            node = step.node_of[device]
            if node not in exchange.answered:
                refused[device] = _why(exchange, node)
            if device in refused:
                self._drop(step.plan, step.tally, device, action, refused[device])

    def _drop(self, plan: SessionPlan, tally: Tally, who: str, stage: str, why: str | SecAggError) -> None:
        tally.drop(who, stage, why)
        text = f"{who} left at {stage}: {str(why)[:MAX_REASON]}"
        _log.info("%s", text)
        self._progress.event("device.left", text, **asdict(plan.place), device=who, stage=stage)

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


def _why(exchange: Exchange, node: int) -> str | MessageError:
    """Why a node gave no reply that the protocol could look at."""
    return exchange.refused.get(node) or exchange.failures.get(node, NO_ANSWER)


def _read_check_in(payload: bytes) -> tuple[str, bytes | None]:
    """Return the device's name, which nothing has verified yet, and its bundle; None where it has nothing to report.

    Raises MessageError.
    """
    try:
        response = rounds_pb2.CheckInResponse.FromString(payload)
    except DecodeError as error:
        raise MessageError(f"it cannot be read: {error}") from None
    try:
        check_device_id(response.device_id)  # before it stands in logs and in the database
    except InputError:
        raise MessageError(UNUSABLE) from None
    return response.device_id, None if response.nothing_to_report else response.bundle
