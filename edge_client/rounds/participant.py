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

from edge_client.answering.energy import EnergyMeter
from edge_client.clock import Clock
from edge_client.releases.loading import LoadedRelease
from edge_client.releases.manager import ReleaseManager
from edge_client.rounds.contribution import Contribution, make_counts, make_health, make_update, make_usage, without_news
from edge_client.rounds.learner import Training, training_from_mapping
from edge_client.rounds.refusal import SessionRefused
from edge_client.rounds.training_checks import check_release, check_update
from edge_client.rounds.training_policy import TrainingPolicy
from edge_client.rounds.usage import mark_usage_sent, pending_usage
from edge_client.store import DeviceStore
from fedge import logs
from fedge.costs import Kind
from fedge.identity import DeviceIdentity
from fedge.randomness import derive
from fedge.routing import Policy
from fedge.secagg import (
    CertificateVerifier,
    DevicePolicy,
    DeviceState,
    Session,
    SessionConfig,
    UnknownRoundKey,
    Vector,
    encode,
    expire,
)
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

    def handle_shares(self, state: DeviceState, message: bytes, encoded: Vector) -> tuple[DeviceState, bytes, Vector | None]:
        """Step 3: open the shares, mask the vector."""

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
    unknown_round_key: Callable[[], None] = lambda: None
    """Told when a session is opened under another key than ``round_key``: it may have been changed since it was fetched."""


@dataclass(slots=True)
class _Open:
    """The session at hand."""

    request: "rounds_pb2.CheckInRequest"
    release: LoadedRelease
    contribution: Contribution
    noise_salt: bytes
    """Fresh for each check-in, so that noise never comes twice, whatever became of the stored rounds. Erased with it."""


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
        self._training_policy = training_policy or TrainingPolicy()
        self._open: _Open | None = None

    def take_identity(self, identity: DeviceIdentity) -> None:
        """Go by a renewed certificate from the next check-in on."""
        self._identity = identity

    def take_federation(self, federation: Federation) -> None:
        """Go by a federation's new keys from the next session on."""
        self._federation = federation

    def check_in(self, payload: bytes) -> bytes:
        """Step 0: load the release that the session is about, do the work, and offer one-time keys."""
        request = _read_request(payload)
        _bind(request)
        now = self._clock()
        release, downloaded = self._release_of(request)
        with self._meter.watch() as watched:
            contribution = self._contribute(request, release)
        self._store.ledger.append(
            [
                *self._meter.transfer({Kind.DOWNLINK_RELEASES: downloaded}, at=now),
                *self._meter.work(steps=contribution.steps, scored=contribution.scored, at=now, spent=watched.spent),
                self._meter.secagg(sessions=1, at=now),
            ]
        )
        identity = self._identity
        state, bundle = self._roles.create_bundle(
            identity.private_key,
            identity.device_id,
            identity.certificate,
            now=now,
            expires=now + BUNDLE_LIFE_S,
            entropy=self._entropy,
        )
        self._save(state)
        self._open = _Open(request, release, contribution, b"" if self._repeatable_noise else self._entropy(32))
        _log.info("checked in, after %d training steps", contribution.steps)
        return rounds_pb2.CheckInResponse(device_id=identity.device_id, bundle=bundle).SerializeToString()

    def roster(self, payload: bytes) -> bytes:
        """Steps 1 and 2. The (round, attempt) is on disk before the shares leave: a replayed descriptor is refused
        for good.
        """
        opened = self._opened()
        try:
            state, reply = self._roles.handle_roster(self._state(), payload, self._conditions(opened))
        except UnknownRoundKey:
            self._federation.unknown_round_key()
            raise
        _bind_session(state)
        if state.accepted is not None:
            round_number, attempt = state.accepted
            self._store.sessions.accept(self._federation.name, round_number=round_number, attempt=attempt)
        self._save(state)
        return reply

    def shares(self, payload: bytes) -> tuple[bytes, bytes | None]:
        """Step 3: the answer, and the vector's raw little-endian bytes unless the answer is a complaint."""
        opened = self._opened()
        state = self._state()
        if state.session is None:
            raise SessionRefused("shares came before a roster")
        contribution = opened.contribution
        encoded = encode(contribution.reals, contribution.integers, *self._randomness(state.session, opened.noise_salt))
        after, reply, vector = self._roles.handle_shares(state, payload, encoded)
        if vector is not None and after is not state:  # a repeated request changes nothing, so it spends nothing again
            self._spend(opened)
            # Before the save, whose fsync then covers these marks too: a power cut must not bring sent pairs back.
            if contribution.pairs is not None:
                self._store.probes.mark_pairs_spent(contribution.pairs)
            if contribution.health is not None:
                self._store.health.mark_sent(contribution.health)
            if contribution.fit is not None:
                self._store.training.set_last_fit(contribution.fit)
            if contribution.usage is not None:
                mark_usage_sent(self._store, contribution.usage, now=self._clock())
            if contribution.trained_on:
                self._store.memory.mark_used(contribution.trained_on)
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

    def _randomness(self, session: Session, noise_salt: bytes) -> tuple[SessionConfig, bytes, bytes]:
        """The session's configuration, and the seeds of rounding (the same in every run, masked or not) and of noise.

        Both hang on the descriptor's round and attempt, of which this device accepts each pair once. Noise hangs on the
        check-in's salt as well: a database that was put back, or a federation founded anew under the same name, would bring
        the pairs again, and two vectors with one noise differ by what it was to hide.
        """
        descriptor = session.descriptor
        rounding = derive(self._seed, "rounding", descriptor.round, descriptor.attempt)
        noise = derive(self._seed, "noise", descriptor.run, descriptor.round, descriptor.attempt, noise_salt.hex())
        return session.config, rounding, noise

    def _contribute(self, request: "rounds_pb2.CheckInRequest", release: LoadedRelease) -> Contribution:
        if request.purpose == rounds_pb2.PURPOSE_UPDATE:
            again = self._store.sessions.is_spent(_mark("update", request.release_id))
            seed = derive(self._seed, "training", request.round, request.attempt)
            now = self._clock()
            check_release(self._training_policy, release.release.manifest, self._store, now=now)
            update = make_update(self._store, release, seed=seed, now=now, again=again, policy=self._policy)
            check_update(self._training_policy, update, self._store)
            # A few examples can be left out in a few ways only. Who has nothing new to say says nothing, instead of being
            # one answer too few for the others' sum.
            return without_news(update) if self._store.sessions.is_spent(_fingerprint(update)) else update
        if request.purpose == rounds_pb2.PURPOSE_COUNTS:
            return make_counts(
                self._store,
                release,
                self._policy,
                publication=request.publication,
                price_usd=self._meter.book.central_price_usd,
            )
        if request.purpose == rounds_pb2.PURPOSE_HEALTH:
            return make_health(self._releases.health_counts(request.canary_release_id))
        if request.purpose == rounds_pb2.PURPOSE_USAGE:
            return make_usage(pending_usage(self._store, self._meter.book, self._meter.profile, now=self._clock()))
        raise SessionRefused(f"a session of purpose {request.purpose} is unknown to this device")

    def _release_of(self, request: "rounds_pb2.CheckInRequest") -> tuple[LoadedRelease, int]:
        """Return the release that the session is about. To be trained on, it must have come by this device's own channel;
        counts are about a candidate that is offered, but not yet to be run.
        """
        if request.purpose == rounds_pb2.PURPOSE_UPDATE and not self._releases.is_desired(request.release_id):
            raise SessionRefused(
                f"release {request.release_id[:12]} is not the one that this device is to run: it trains on no other"
            )
        return self._releases.obtain(request.release_id)

    def _conditions(self, opened: _Open) -> DevicePolicy:
        manifest = opened.release.release.manifest
        training = training_from_mapping(manifest.training)
        federation = self._federation
        return DevicePolicy(
            round_key=federation.round_key,
            verify_certificate=federation.verify_certificate,
            revoked=federation.revoked,
            revocations_issued=federation.revocations_issued(),
            federation=federation.name,
            last_accepted=self._store.sessions.last_accepted(federation.name),
            release_id=opened.request.release_id,
            weights_sha256=manifest.weights_sha256,
            structure_sha256=manifest.structure_sha256,
            reals=len(opened.contribution.reals),
            integers=len(opened.contribution.integers),
            scale=training.clip_norm,
            clip_norm=training.clip_norm,
            weight_cap=training.weight_cap,
            now=self._clock(),
            n_min=federation.n_min,
            noise_multiplier=self._least_noise(opened.request, training),
        )

    def _least_noise(self, request: "rounds_pb2.CheckInRequest", training: Training) -> float:
        """What the signed release says that updates need, and the device's own floor, which no release can lower; counts are
        exact and lie outside of it.
        """
        if request.purpose != rounds_pb2.PURPOSE_UPDATE:
            return 0.0
        return max(training.noise_multiplier, self._federation.noise_multiplier)

    def _spend(self, opened: _Open) -> None:
        """Note on disk, before the vector leaves, that the contribution is spent; SessionRefused where it was.

        Probe counts of one release are nearly the same integers whenever they are asked for: masked twice, under two cohorts
        of the aggregator's choice, they could be had by subtraction. An update on the same release is trained anew, on other
        examples; the aggregator's word on rounds and attempts decides nothing here.
        """
        request, contribution = opened.request, opened.contribution
        sessions = self._store.sessions
        if request.purpose in (rounds_pb2.PURPOSE_HEALTH, rounds_pb2.PURPOSE_USAGE):
            return  # these counts are news since the last time, so two sums of them have nothing in common
        if request.purpose == rounds_pb2.PURPOSE_COUNTS:
            fresh = sessions.spend_update(_mark("counts", request.release_id))
        else:
            sessions.spend_update(_mark("update", request.release_id))
            # An update of zeros protects nothing: nothing was trained.
            fresh = not contribution.reals.any() or sessions.spend_update(_fingerprint(contribution))
        if not fresh:
            raise SessionRefused("this contribution has left the device once and is never masked again")

    def _opened(self) -> _Open:
        if self._open is None:
            raise SessionRefused("this device is in no session: it checked in to none, or restarted since")
        _bind(self._open.request)
        return self._open

    def _state(self) -> DeviceState:
        """The stored session; past its deadline its secrets are erased before anything is answered."""
        stored = self._store.sessions.load(SLOT)
        if stored is None:
            raise SessionRefused("this device is in no session: it checked in to none")
        state = DeviceState.from_bytes(stored, identity_key=self._identity.private_key)
        if self._open is not None:
            _bind(self._open.request)
        _bind_session(state)  # before it may be expired, so that what is said of that bears its id
        current = expire(state, now=self._clock())
        if current is not state:
            self._save(current)
        return current

    def _save(self, state: DeviceState) -> None:
        self._store.sessions.save(SLOT, state.to_bytes())


def _read_request(payload: bytes) -> "rounds_pb2.CheckInRequest":
    try:
        return rounds_pb2.CheckInRequest.FromString(payload)
    except DecodeError:
        raise SessionRefused(f"the check-in of {len(payload)} bytes cannot be read") from None


def _bind(request: "rounds_pb2.CheckInRequest") -> None:
    """Log lines from here on say which round and purpose, in the server's words."""
    known = request.purpose in rounds_pb2.Purpose.values()
    name = rounds_pb2.Purpose.Name(request.purpose).removeprefix("PURPOSE_").lower() if known else str(request.purpose)
    logs.bind(round=request.round, attempt=request.attempt, purpose=name)


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
