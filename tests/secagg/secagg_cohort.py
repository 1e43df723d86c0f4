"""A cohort of devices and its server in one process, driven step by step; device states go through their bytes."""

import copy
import math
import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge import secagg
from fedge.errors import FedgeError, VerificationError
from fedge.secagg import DevicePolicy, DeviceState, Outcome, RangeClaim, SessionConfig, Task, keys
from fedge.secagg.wire import sha256
from protos.fedge.secagg.v1 import secagg_pb2 as pb

NOW, DEADLINE, EXPIRES = 1_000.0, 2_000.0, 3_000.0
TASK = Task(purpose="update", period=5, release_id="1" * 64, weights_sha256="2" * 64, structure_sha256="3" * 64)


@cache
def private_key(label: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(random.Random(label).randbytes(32))


def certificate(name: str, key: Ed25519PrivateKey | None = None) -> bytes:
    """A stand-in for a certificate: the tests need who it speaks for, not X.509."""
    return name.encode() + b"|" + (key or private_key(name)).public_key().public_bytes_raw()


def verify_certificate(der: bytes) -> tuple[str, Ed25519PublicKey]:
    name, _, key = der.partition(b"|")
    if len(key) != 32:
        raise VerificationError("not a certificate")
    return name.decode(), Ed25519PublicKey.from_public_bytes(key)


def config_of(n: int, **changes) -> SessionConfig:
    values = {
        "reals": 3,
        "integers": 2,
        "bits": 32,
        "cohort_max": max(n, 2),
        "scale": 1.0,
        "clip_norm": 1.0,
        "weight_cap": 10,
        "n_min": 2,
        "deadline": DEADLINE,
        "noise_multiplier": 0.0,
    }
    values |= changes
    if "clip_norm" not in changes and not values["noise_multiplier"]:
        # Tests of the codec fill long vectors with values of any size: a norm that allows it.
        values["clip_norm"] = max(1.0, values["scale"] * math.sqrt(max(values["reals"], 0)) / 4)
    return SessionConfig(**values)


@contextmanager
def raises(kind: type[FedgeError], message: str, *, blames: str | None = None) -> Iterator[None]:
    """The block must raise exactly ``kind`` with exactly ``message`` and blame that device."""
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    prefix = "" if blames is None else f"{blames}: "
    assert str(caught.value) == prefix + message
    assert getattr(caught.value, "device_id", None) == blames


class Cohort:
    """Devices device-01, device-02, ... and their server. Everything that the server is sent stands in ``view``."""

    def __init__(
        self,
        n: int,
        *,
        protocol: ModuleType = secagg,
        seed: int = 0,
        one_hot: bool = False,
        task: Task = TASK,
        claim: RangeClaim | None = None,
        **config,
    ) -> None:
        self.protocol = protocol
        self.task, self.claim = task, claim
        self.random = random.Random(seed)
        self.names = [f"device-{i:02d}" for i in range(1, n + 1)]
        if one_hot:
            config = {"reals": 0, "integers": n, **config}
        self.config = config_of(n, **config)
        self.states: dict[str, DeviceState] = {}
        self.bundles: dict[str, bytes] = {}
        self.vectors = {name: self._one_hot(i) if one_hot else self._random_vector() for i, name in enumerate(self.names)}
        self.view: list[tuple[str, str, bytes]] = []
        self.server = None
        self.answers: dict = {}

    @classmethod
    def open_fresh(cls, n: int, **arguments) -> "Cohort":
        """A cohort whose session was just opened; the roster messages stand in ``messages``."""
        cohort = cls(n, **arguments)
        cohort.messages = cohort.open()
        return cohort

    def _one_hot(self, index: int) -> np.ndarray:
        return secagg.encode(np.zeros(0), np.eye(len(self.names), dtype=int)[index], self.config, bytes(32))

    def _random_vector(self) -> np.ndarray:
        numbers = np.random.default_rng(self.random.randrange(2**32))
        reals = numbers.uniform(-1, 1, self.config.reals) * self.config.scale
        integers = numbers.integers(0, 2 * self.config.quantum, self.config.integers, endpoint=True)
        return secagg.encode(reals, integers, self.config, self.random.randbytes(32))

    def policy(self, **changes) -> DevicePolicy:
        values = {
            "round_key": private_key("round").public_key(),
            "verify_certificate": verify_certificate,
            "revoked": frozenset(),
            "federation": "fleet",
            "last_accepted": None,
            "task": self.task,
            "reals": self.config.reals,
            "integers": self.config.integers,
            "clip_norm": self.config.clip_norm,
            "weight_cap": self.config.weight_cap,
            "now": NOW,
            "n_min": 2,
        }
        return DevicePolicy(**{**values, **changes})

    def keep(self, name: str, state: DeviceState) -> DeviceState:
        """Stores a device's state and reads it back, as after a crash."""
        data = state.to_bytes()
        restored = self.protocol.DeviceState.from_bytes(data, identity_key=private_key(name))
        assert restored == state and restored.to_bytes() == data
        self.states[name] = restored
        return restored

    def check_in(self, names: Collection[str] | None = None) -> dict[str, bytes]:
        for name in self.names if names is None else names:
            state, self.bundles[name] = self.protocol.create_bundle(
                private_key(name), name, certificate(name), now=NOW, expires=EXPIRES, entropy=self.random.randbytes
            )
            self.keep(name, state)
            self.view.append((name, "bundle", self.bundles[name]))
        return self.bundles

    def open(self, **changes) -> dict[str, bytes]:
        values = {
            "round_key": private_key("round"),
            "run": "fleet",
            "round": 7,
            "attempt": 1,
            "task": self.task,
            "claim": self.claim,
            "verify_certificate": verify_certificate,
            "now": NOW,
            "entropy": self.random.randbytes,
        }
        if not self.bundles:
            self.check_in()
        self.server, messages = self.protocol.create_session(self.config, self.bundles, **{**values, **changes})
        return messages

    def answer(self, name: str, handler: str, message: bytes, *arguments):
        """What a device answers. Handlers are pure, so that branches of one session (see `fork`) share the answers."""
        key = (name, handler, self.states[name].to_bytes(), message)
        if key not in self.answers:
            state, *reply = getattr(self.protocol, handler)(self.states[name], message, *arguments)
            self.answers[key] = self.keep(name, state), *reply
        self.states[name], *reply = self.answers[key]
        return reply

    def roster_reply(self, name: str, message: bytes, **policy) -> bytes:
        return self.answer(name, "handle_roster", message, self.policy(**policy))[0]

    def masked(self, name: str, message: bytes):
        return self.answer(name, "handle_shares", message, self.vectors[name], self.claim)

    def consistency_reply(self, name: str, message: bytes) -> bytes:
        return self.answer(name, "handle_consistency", message)[0]

    def unmask_reply(self, name: str, message: bytes) -> bytes:
        return self.answer(name, "handle_unmask", message)[0]

    def share(self, messages: Mapping[str, bytes], *, without: Collection[str] = ()) -> dict[str, bytes]:
        """Steps 1 and 2. Devices in ``without`` answer, but the answer never arrives."""
        for name, message in messages.items():
            reply = self.roster_reply(name, message)
            if name not in without:
                self.view.append((name, "share", reply))
                self.protocol.handle_roster_reply(self.server, name, reply)
        return self.protocol.create_share_messages(self.server)

    def mask(self, messages: Mapping[str, bytes], *, without: Collection[str] = ()) -> dict[str, bytes]:
        """Step 3."""
        for name, message in messages.items():
            reply, vector = self.masked(name, message)
            if name not in without:
                self.view += [(name, "masked", reply), (name, "vector", vector.tobytes())]
                self.protocol.handle_masked(self.server, name, reply, vector)
        return self.protocol.create_consistency_messages(self.server)

    def agree(self, messages: Mapping[str, bytes], *, without: Collection[str] = ()) -> dict[str, bytes]:
        """Step 4."""
        for name, message in messages.items():
            reply = self.consistency_reply(name, message)
            if name not in without:
                self.view.append((name, "consistency", reply))
                self.protocol.handle_consistency_reply(self.server, name, reply)
        return self.protocol.create_unmask_messages(self.server)

    def unmask(self, messages: Mapping[str, bytes], *, without: Collection[str] = ()) -> Outcome:
        """Steps 5 and 6."""
        for name, message in messages.items():
            reply = self.unmask_reply(name, message)
            if name not in without:
                self.view.append((name, "unmask", reply))
                self.protocol.handle_unmask_reply(self.server, name, reply)
        return self.protocol.recover(self.server)

    def run(self, *, share=(), mask=(), agree=(), unmask=()) -> Outcome:
        """The whole session; each argument names the devices that drop out at that stage."""
        delivery = self.share(self.open(), without=share)
        consistency = self.mask(delivery, without=mask)
        request = self.agree(consistency, without=agree)
        return self.unmask(request, without=unmask)

    def sum_of(self, names: Collection[str]) -> np.ndarray:
        """What the sum of these devices' vectors must be."""
        modulus = 1 << self.config.bits
        total = sum((self.vectors[name].astype(object) for name in names), np.zeros(self.config.length, dtype=object))
        return (total % modulus).astype(f"<u{self.config.bits // 8}")

    def fork(self) -> "Cohort":
        """A copy that can be driven on by itself."""
        other = copy.copy(self)
        other.states, other.view = dict(self.states), list(self.view)
        other.server = copy.deepcopy(self.server)
        return other


def rebundle(cohort, name: str, change=lambda bundle: None, *, key=None, der=None) -> bytes:
    """The device's bundle with its body changed and signed again."""
    signed = pb.SignedBundle.FromString(cohort.bundles[name])
    bundle = pb.Bundle.FromString(signed.bundle)
    signed.certificate = der if der is not None else signed.certificate
    bundle.certificate_sha256 = sha256(signed.certificate)
    change(bundle)
    signed.bundle = bundle.SerializeToString()
    signed.signature = keys.sign(key or private_key(name), "bundle", signed.bundle)
    return signed.SerializeToString()


def at_masking(n=5, **config) -> "Cohort":
    """A cohort of which everyone shared, with the delivery that comes next."""
    cohort = Cohort.open_fresh(n, **config)
    cohort.delivery = cohort.share(cohort.messages)
    return cohort


def at_agreeing(n=5, without=("device-05",), **config) -> "Cohort":
    """The same after all but ``without`` delivered, with the request that comes next."""
    cohort = at_masking(n, **config)
    cohort.request = cohort.mask(cohort.delivery, without=without)
    return cohort


def at_unmasking(n=5, without=("device-05",), **config) -> "Cohort":
    """The same after the survivors agreed, with the final request."""
    cohort = at_agreeing(n, without, **config)
    cohort.final = cohort.agree(cohort.request)
    return cohort


def reaches(stage: str, n=5, **config) -> Cohort:
    """A cohort just before it answers at ``stage``; the messages to it stand in ``messages``."""
    cohort = Cohort.open_fresh(n, **config)
    for step in ("share", "mask", "agree"):
        if step == stage:
            break
        without = ["device-05"] if step == "mask" else []
        cohort.messages = getattr(cohort, step)(cohort.messages, without=without)
    return cohort


def finishes(cohort, stage, without=()):
    """Runs the rest of the session and checks the sum."""
    messages = cohort.messages
    steps = ["share", "mask", "agree", "unmask"]
    for step in steps[steps.index(stage) :]:
        messages = getattr(cohort, step)(messages, without=without if step == stage else ())
    outcome = messages
    np.testing.assert_array_equal(outcome.total, cohort.sum_of(outcome.survivors))
    return outcome
