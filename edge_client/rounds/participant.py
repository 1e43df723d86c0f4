"""A device's side of a session: bring the right release, do the work, and take the steps of secure aggregation.

What must survive a crash (keys, shares, the last accepted round, what was already sent) is in the device's store before an
answer leaves. What was trained lives in memory until it is masked: a device that restarts in between simply drops out.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import DecodeError

from edge_client.clock import Clock
from edge_client.power.accounting import EnergyMeter
from edge_client.refusal import SessionRefused
from edge_client.releases.inference import LoadedRelease
from edge_client.releases.manager import ReleaseManager
from edge_client.rounds.budget import DEFAULT_BUDGET, ContributionBudget
from edge_client.rounds.encoding import ContributionEncoder, encode_contribution
from edge_client.rounds.training_checks import check_release, check_update
from edge_client.rounds.updates import (
    Contribution,
    NothingToReport,
    make_counts,
    make_health,
    make_update,
    make_usage,
    mark_usage_sent,
    pending_usage,
)
from edge_client.store import ContributionEntry, DeviceStore
from edge_client.training_policy import Training, TrainingPolicy, training_from_mapping
from fedge import logs
from fedge.calendar import DAILY, Calendar
from fedge.costs import Kind
from fedge.errors import InputError
from fedge.identity import DeviceIdentity
from fedge.layouts import CountsLayout, HealthLayout
from fedge.randomness import derive
from fedge.release import Manifest
from fedge.routing import Policy
from fedge.routing.probe_noise import ProbeNoise
from fedge.secagg import (
    CertificateVerifier,
    DevicePolicy,
    DeviceState,
    MessageError,
    RangeClaim,
    RefusedError,
    Session,
    Task,
    UnknownRoundKey,
    Vector,
    expire,
    threshold,
)
from fedge.usage import NAMES, Usage
from protos.fedge.rounds.v1 import rounds_pb2

_log = logging.getLogger(__name__)

SLOT = "session"
BUNDLE_LIFE_S = 3600.0


class DeviceRoles(Protocol):
    """The protocol's device side: `fedge.secagg`, or `fedge.secagg.plain` for runs where nothing is private."""

    def create_bundle(
        self,
        identity_key: Ed25519PrivateKey,
        device_id: str,
        certificate_der: bytes,
        *,
        now: float,
        expires: float,
        entropy: Callable[[int], bytes],
    ) -> tuple[DeviceState, bytes]:
        """Step 0: one-time keys and the signed bundle."""

    def handle_roster(self, state: DeviceState, message: bytes, policy: DevicePolicy) -> tuple[DeviceState, bytes]:
        """Steps 1 and 2: check the descriptor, deal the shares."""

    def handle_shares(
        self, state: DeviceState, message: bytes, encoded: Vector, claim: RangeClaim | None = None
    ) -> tuple[DeviceState, bytes, Vector | None]:
        """Step 3: open the shares, mask the vector, prove the claim where the task asks for it."""

    def handle_consistency(self, state: DeviceState, message: bytes) -> tuple[DeviceState, bytes]:
        """Step 4: agree on who delivered."""

    def handle_unmask(self, state: DeviceState, message: bytes) -> tuple[DeviceState, bytes]:
        """Step 5: reveal one share of each peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """What a device knows of the federation it belongs to, and what it insists on."""

    name: str
    round_key: Ed25519PublicKey
    verify_certificate: CertificateVerifier
    revoked: Collection[str]
    n_min: int
    noise_multiplier: float = 0.0
    """The least noise that its updates get, whatever a release says; 0: the release decides."""
    revocations_issued: Callable[[], float | None] = lambda: None
    """When the list behind ``revoked`` was signed; None where there is no such list (in simulation)."""
    calendar: Calendar = DAILY
    """The periods of which each is spent once, as the signed trust root gives them."""
    budget: ContributionBudget = DEFAULT_BUDGET
    """This device's own bounds on what it contributes."""
    unknown_round_key: Callable[[], None] = lambda: None
    """Told when a session is opened under another key than ``round_key``: it may have been changed since it was fetched."""


@dataclass(slots=True)
class _Open:
    """The session at hand. ``contribution``: an update from the check-in on, else from the descriptor on."""

    round_number: int
    attempt: int
    task: Task
    release: LoadedRelease
    contribution: Contribution | None
    noise_salt: bytes
    """Fresh for each check-in, so that noise never comes twice, whatever became of the stored rounds. Erased with it."""
    claim: RangeClaim | None = None
    """What the task wants proved of the contribution."""


class Participant:
    """Takes part in sessions for one device. ``seed`` feeds training order, rounding and noise: nobody else may know it.

    Keys come from ``entropy``, and what makes noise fresh. ``repeatable_noise``: noise hangs on ``seed`` and the round only,
    for a simulation that must come out the same each time; a device whose database can be put back must not do that.
    """

    def __init__(
        self,
        *,
        identity: DeviceIdentity,
        federation: Federation,
        store: DeviceStore,
        releases: ReleaseManager,
        meter: EnergyMeter,
        policy: Policy,
        roles: DeviceRoles,
        seed: bytes,
        clock: Clock,
        entropy: Callable[[int], bytes],
        repeatable_noise: bool = False,
        encoder: ContributionEncoder = encode_contribution,
        training_policy: TrainingPolicy | None = None,
    ) -> None:
        self._identity = identity
        self._federation = federation
        self._store = store
        self._releases = releases
        self._meter = meter
        self._policy = policy
        self._roles = roles
        self._seed = seed
        self._clock = clock
        self._entropy = entropy
        self._repeatable_noise = repeatable_noise
        self._encode = encoder
        self._training_policy = training_policy or TrainingPolicy()
        self._open: _Open | None = None

    def take_identity(self, identity: DeviceIdentity) -> None:
        """Go by a renewed certificate from the next check-in on."""
        self._identity = identity

    def take_federation(self, federation: Federation) -> None:
        """Go by a federation's new keys from the next session on."""
        self._federation = federation

    def check_in(self, payload: bytes) -> bytes:
        """Step 0: load the release that the task names, train if it asks for an update, and offer one-time keys.

        A device with nothing to report for the task's purpose and period says so, and offers none.
        """
        round_number, attempt, task = _read_request(payload)
        logs.bind(round=round_number, attempt=attempt, purpose=task.purpose)
        self._open = None
        now = self._clock()
        self._federation.budget.check(task, self._federation.calendar, now=now)
        identity = self._identity
        try:
            opened = self._prepare(round_number, attempt, task, now=now)
        except NothingToReport as nothing:
            _log.info("this device stays out of the session: %s", nothing)
            return rounds_pb2.CheckInResponse(device_id=identity.device_id, nothing_to_report=True).SerializeToString()
        state, bundle = self._roles.create_bundle(
            identity.private_key,
            identity.device_id,
            identity.certificate,
            now=now,
            expires=now + BUNDLE_LIFE_S,
            entropy=self._entropy,
        )
        self._save(state)
        self._open = opened
        _log.info("checked in, after %d training steps", opened.contribution.steps if opened.contribution else 0)
        return rounds_pb2.CheckInResponse(device_id=identity.device_id, bundle=bundle).SerializeToString()

    def roster(self, payload: bytes) -> bytes:
        """Steps 1 and 2. The (round, attempt) is on disk before the shares leave: a replayed descriptor is refused
        for good, and so is a second one of the same attempt.
        """
        opened = self._opened()
        before = self._state()
        try:
            state, reply = self._roles.handle_roster(before, payload, self._conditions(opened))
        except UnknownRoundKey:
            self._federation.unknown_round_key()
            raise
        _bind_session(state)
        if state is not before and state.accepted is not None:
            round_number, attempt = state.accepted
            if not self._store.sessions.accept(self._federation.name, round_number=round_number, attempt=attempt):
                raise RefusedError(f"this device has signed under a descriptor of round {round_number}, attempt {attempt}")
        self._save(state)
        return reply

    def shares(self, payload: bytes) -> tuple[bytes, bytes | None]:
        """Step 3: the answer, and the vector's raw little-endian bytes unless the answer is a complaint."""
        opened = self._opened()
        state = self._state()
        if state.session is None:
            raise SessionRefused("shares came before a roster")
        contribution = self._contribution(opened, state.session)
        rounding, noise = self._randomness(state.session, opened.noise_salt)
        encoded = self._encode(contribution, opened.release, state.session, rounding_seed=rounding, noise_seed=noise)
        after, reply, vector = self._roles.handle_shares(state, payload, encoded, opened.claim)
        if vector is not None and after is not state:  # a repeated request changes nothing, so it spends nothing again
            self._spend(opened, contribution, cohort=state.session.n)
        self._save(after)
        if vector is None:
            return reply, None
        _log.info("the masked vector is on its way")
        return reply, vector.astype(vector.dtype.newbyteorder("<"), copy=False).tobytes()

    def consistency(self, payload: bytes) -> bytes:
        """Step 4."""
        state, reply = self._roles.handle_consistency(self._state(), payload)
        self._save(state)
        return reply

    def unmask(self, payload: bytes) -> bytes:
        """Step 5; after it only the sealed reply is left of the session."""
        state, reply = self._roles.handle_unmask(self._state(), payload)
        self._save(state)
        self._open = None
        _log.info("the session has ended")
        return reply

    def _randomness(self, session: Session, noise_salt: bytes) -> tuple[bytes, bytes]:
        """The seeds of rounding (the same in every run, masked or not) and of noise.

        Both hang on the descriptor's round and attempt, of which this device accepts each pair once. Noise hangs on the
        check-in's salt as well: a database that was put back, or a federation founded anew under the same name, would bring
        the pairs again, and two vectors with one noise differ by what it was to hide.
        """
        descriptor = session.descriptor
        rounding = derive(self._seed, "rounding", descriptor.round, descriptor.attempt)
        return rounding, self._noise_seed("noise", session, noise_salt)

    def _noise_seed(self, label: str, session: Session, noise_salt: bytes) -> bytes:
        descriptor = session.descriptor
        return derive(self._seed, label, descriptor.run, descriptor.round, descriptor.attempt, noise_salt.hex())

    def _prepare(self, round_number: int, attempt: int, task: Task, *, now: float) -> _Open:
        """Load the task's release and train where it asks for an update. Raises NothingToReport or RefusedError."""
        if self._store.contributions.spent(task.purpose, since=self._federation.calendar.start_of(task.period)):
            raise NothingToReport(f"{task.purpose} of period {task.period} has left this device")
        self._require_news(task, now=now)
        if task.purpose == "update" and not self._releases.is_desired(task.release_id):
            # Counts are about a candidate that is offered; only what came by this device's own channel is trained on.
            raise SessionRefused(
                f"release {task.release_id[:12]} is not the one that this device is to run: it trains on no other"
            )
        release, downloaded = self._releases.obtain(task.release_id)
        _check_named(task, release.release.manifest)
        claim = _claim(task, release.release.manifest)
        with self._meter.watch() as watched:
            update = self._update(round_number, attempt, task, release, now=now) if task.purpose == "update" else None
        self._store.ledger.append(
            [
                *self._meter.transfer({Kind.DOWNLINK_RELEASES: downloaded}, at=now),
                *self._meter.work(
                    steps=update.steps if update else 0, scored=update.scored if update else 0, at=now, spent=watched.spent
                ),
                self._meter.secagg(sessions=1, at=now),
            ]
        )
        salt = b"" if self._repeatable_noise else self._entropy(32)
        return _Open(round_number, attempt, task, release, update, salt, claim)

    def _require_news(self, task: Task, *, now: float) -> None:
        """Raise NothingToReport where this device has nothing unspent of what a sum of counts, health or usage is about."""
        if task.purpose == "counts" and not self._store.probes.fresh_count():
            raise NothingToReport("no probe is fresh")
        if task.purpose == "health":
            make_health(self._releases.health_counts(task.canary_release_id))
        if task.purpose == "usage":
            make_usage(self._usage(now))

    def _update(self, round_number: int, attempt: int, task: Task, release: LoadedRelease, *, now: float) -> Contribution:
        check_release(self._training_policy, release.release.manifest, self._store, now=now)
        update = make_update(
            self._store,
            release,
            now=now,
            max_share=self._training_policy.max_example_share,
            seed=derive(self._seed, "training", round_number, attempt),
            again=self._store.sessions.is_spent(_mark("update", task.release_id)),
            policy=self._policy,
        )
        # A few examples can be left out in a few ways only.
        if not update.reals.any() or self._store.sessions.is_spent(_fingerprint(update)):
            raise NothingToReport("the update is empty, or has left this device before")
        check_update(self._training_policy, update, self._store)
        return update

    def _contribution(self, opened: _Open, session: Session) -> Contribution:
        """Return what the accepted descriptor asks for, computed once a session."""
        if opened.contribution is None:
            opened.contribution = self._compute(opened, session)
        return opened.contribution

    def _compute(self, opened: _Open, session: Session) -> Contribution:
        task, now = opened.task, self._clock()
        if task.purpose == "health":
            return make_health(self._releases.health_counts(task.canary_release_id))
        if task.purpose == "usage":
            return make_usage(self._usage(now))
        contribution = make_counts(
            opened.release,
            self._store.probes.select(
                fresh=task.probe_cap,
                max_scored=self._federation.budget.max_rescores,
                most=task.probe_store if task.range_proofs else None,
            ),
            self._policy,
            noise=ProbeNoise(task.probe_epsilon, threshold(session.n)),
            noise_seed=self._noise_seed("probe noise", session, opened.noise_salt),
            price_usd=self._meter.book.central_price_usd,
        )
        self._store.ledger.append(self._meter.work(steps=0, scored=contribution.scored, at=now))
        return contribution

    def _usage(self, now: float) -> Usage:
        return pending_usage(self._store, self._meter.book, self._meter.profile, now=now)

    def _conditions(self, opened: _Open) -> DevicePolicy:
        manifest = opened.release.release.manifest
        training = training_from_mapping(manifest.training)
        federation = self._federation
        reals, integers = self._sizes(opened)
        return DevicePolicy(
            round_key=federation.round_key,
            verify_certificate=federation.verify_certificate,
            revoked=federation.revoked,
            revocations_issued=federation.revocations_issued(),
            federation=federation.name,
            last_accepted=self._store.sessions.last_accepted(federation.name),
            task=opened.task,
            reals=reals,
            integers=integers,
            clip_norm=training.clip_norm,
            weight_cap=training.weight_cap,
            now=self._clock(),
            n_min=federation.n_min,
            noise_multiplier=self._least_noise(opened.task, training),
        )

    @staticmethod
    def _sizes(opened: _Open) -> tuple[int, int]:
        """Return how many reals and integers the contribution has."""
        if opened.contribution is not None:
            return opened.contribution.coordinates_sent
        bins = len(opened.release.release.manifest.threshold_grid)
        integers = {"counts": CountsLayout(bins).integers, "health": HealthLayout().integers, "usage": len(NAMES)}
        return 0, integers[opened.task.purpose]

    def _least_noise(self, task: Task, training: Training) -> float:
        """Return what the signed release says that updates need, or the device's own floor, which no release can lower.

        Noise on reals is for updates; counts have their own (`fedge.routing.probe_noise`).
        """
        if task.purpose != "update":
            return 0.0
        return max(training.noise_multiplier, self._federation.noise_multiplier)

    def _spend(self, opened: _Open, contribution: Contribution, *, cohort: int) -> None:
        """Note on disk, before the vector leaves, that the contribution is spent; SessionRefused where it was.

        Counting goes by the calendar: no release, session, round or attempt that the aggregator names opens a period again.
        """
        task, store, now = opened.task, self._store, self._clock()
        entry = ContributionEntry(task.purpose, task.period, now, task.release_id, cohort, task.probe_epsilon)
        with store.transaction(durable=True):
            if not store.contributions.spend(entry, since=self._federation.calendar.start_of(task.period)):
                raise SessionRefused(f"{task.purpose} of period {task.period} has left the device and is never masked again")
            if task.purpose == "update":
                store.sessions.spend_update(_mark("update", task.release_id))
                if not store.sessions.spend_update(_fingerprint(contribution)):
                    raise SessionRefused("this update has left the device once and is never masked again")
                store.memory.mark_used(contribution.trained_on)
            if contribution.fit is not None:
                store.training.set_last_fit(contribution.fit)
            if contribution.probes is not None:
                store.probes.mark_sent(contribution.probes)
            if contribution.health is not None:
                store.health.mark_sent(contribution.health)
            if contribution.usage is not None:
                mark_usage_sent(store, contribution.usage, now=now)

    def _opened(self) -> _Open:
        if self._open is None:
            raise SessionRefused("this device is in no session: it checked in to none, or restarted since")
        _bind(self._open)
        return self._open

    def _state(self) -> DeviceState:
        """The stored session; past its deadline its secrets are erased before anything is answered."""
        stored = self._store.sessions.load(SLOT)
        if stored is None:
            raise SessionRefused("this device is in no session: it checked in to none")
        state = DeviceState.from_bytes(stored, identity_key=self._identity.private_key)
        if self._open is not None:
            _bind(self._open)
        _bind_session(state)  # before it may be expired, so that what is said of that bears its id
        current = expire(state, now=self._clock())
        if current is not state:
            self._save(current)
        return current

    def _save(self, state: DeviceState) -> None:
        self._store.sessions.save(SLOT, state.to_bytes())


def _read_request(payload: bytes) -> tuple[int, int, Task]:
    """Return the round, the attempt and the task of a check-in. Raises SessionRefused."""
    try:
        request = rounds_pb2.CheckInRequest.FromString(payload)
        return request.round, request.attempt, Task.from_message(request.task)
    except (DecodeError, MessageError) as error:
        raise SessionRefused(f"the check-in of {len(payload)} bytes cannot be read: {error}") from None


def _check_named(task: Task, manifest: Manifest) -> None:
    """Raise RefusedError unless the task names the release's weights, architecture and base as its manifest does."""
    for name, named, found in (
        ("weights", task.weights_sha256, manifest.weights_sha256),
        ("structure", task.structure_sha256, manifest.structure_sha256),
        ("architecture", task.architecture, manifest.architecture_text),
        ("encoder", task.encoder_sha256, manifest.encoder_sha256),
    ):
        if named != found:
            raise RefusedError(f"release {task.release_id[:12]} has another {name} than the task names: {named[:200]!r}")


def _claim(task: Task, manifest: Manifest) -> RangeClaim | None:
    """Return what the task wants proved of the contribution, or None. Raises RefusedError for what cannot be proved."""
    if not task.range_proofs:
        return None
    noise = ProbeNoise(task.probe_epsilon, 1)
    layout = CountsLayout(len(manifest.threshold_grid), lift=noise.bound)
    try:
        return layout.claim(probe_cap=task.probe_cap, probe_store=task.probe_store, room=noise.room)
    except InputError as error:
        raise RefusedError(f"the task's range proofs cannot be made: {error}") from None


def _bind(opened: _Open) -> None:
    """Name round, attempt and purpose in log lines from here on, in the server's words."""
    logs.bind(round=opened.round_number, attempt=opened.attempt, purpose=opened.task.purpose)


def _bind_session(state: DeviceState) -> None:
    """And which session, once the descriptor is here: by the id that the server's lines and records have."""
    if state.session is not None:
        descriptor = state.session.descriptor
        logs.bind(round=descriptor.round, attempt=descriptor.attempt, session=state.session.session_id.hex())


def _fingerprint(update: Contribution) -> bytes:
    """What an update is known by once it has left."""
    return sha256(update.reals.tobytes()).digest()


def _mark(kind: str, release_id: str) -> bytes:
    return sha256(f"fedge/spent/{kind}/{release_id}".encode()).digest()
