"""Running a release's models with onnxruntime: one thread, checked files only, sessions shared between equal files.

Never sees torch, and never gives onnxruntime a file that `fedge.release.check_model` has not passed.

From the bytes of a release to something that answers: verified, loaded, tested on this machine, or refused.

Nothing is answered with it yet: that is `edge_client.releases.manager`. One loader serves a whole simulated fleet, since all
three steps depend on the bytes and the machine alone; a device simply has one of its own.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from edge_client.releases.trial import LoadingTrial
from fedge.errors import VerificationError
from fedge.features import Query, features_from_mapping
from fedge.release import INFER, Manifest, Release, assemble_release, check_model, verify
from fedge.release.folder import RELEASE_DOMAIN

SELF_TEST_TOLERANCE = 1e-2
"""Largest difference of a logit from the one in the manifest: int8 kernels of other processors differ by up to 3e-3."""

_ROWS_A_RUN = 256  # bounds the memory of one run; larger runs are no faster on one thread


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the model says of n queries: ``logits`` float32 [n, C], ``embedding`` float32 [n, D] (the head's input)."""

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]


class SessionCache:
    """Loaded models by the hash of their bytes, the last few used. Two devices of a simulated fleet share one session.

    Safe between threads. onnxruntime sessions have no state of their own, so sharing one changes no answer.
    """

    def __init__(self, *, max_sessions: int = 4) -> None:
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[bytes, onnxruntime.InferenceSession] = OrderedDict()
        # The bytes objects last hashed: a fleet passes the same immutable object again and again.
        self._hashed: OrderedDict[int, tuple[bytes, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, model: bytes) -> onnxruntime.InferenceSession:
        """The session of a single-file ONNX model. Raises VerificationError for a file that must not be loaded."""
        with self._lock:
            key = self._hash(model)
            session = self._sessions.pop(key, None) or open_session(model)
            self._sessions[key] = session
            while len(self._sessions) > self._max_sessions:
                self._sessions.popitem(last=False)
            return session

    def _hash(self, model: bytes) -> bytes:
        known = self._hashed.get(id(model))
        if known is not None and known[0] is model:
            return known[1]
        digest = hashlib.sha256(model).digest()
        self._hashed[id(model)] = (model, digest)
        while len(self._hashed) > self._max_sessions:
            self._hashed.popitem(last=False)
        return digest


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Check a single-file ONNX model and load it. Raises VerificationError where the check or onnxruntime refuses it."""
    check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # a device has no one who reads warnings on standard error
    # The arena keeps the peak of every shape it ever saw; plain allocation costs a few microseconds and stays small.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a family of its own without a common base
        raise VerificationError(f"onnxruntime cannot load the model: {str(error)[:200]}") from None


class InferenceSession:
    """``infer.onnx`` of one release with the features it wants. Raises VerificationError for a model of another shape."""

    def __init__(self, release: Release, *, sessions: SessionCache | None = None) -> None:
        manifest = release.manifest
        model = release.files[INFER]
        self._session = open_session(model) if sessions is None else sessions.load(model)
        self._features = features_from_mapping(manifest.features)
        self._self_test = manifest.self_test
        self.labels = manifest.labels
        outputs = {output.name for output in self._session.get_outputs()}
        if not {"logits", "embedding"} <= outputs:
            raise VerificationError(f"infer.onnx gives {sorted(outputs)}, a release's model gives logits and embedding")

    def predict(self, queries: Sequence[Query]) -> Predictions:
        """Logits and embeddings of ``queries``. Raises InputError for a query that the features refuse."""
        parts = [self._run(queries[start : start + _ROWS_A_RUN]) for start in range(0, len(queries), _ROWS_A_RUN)]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            width = self._width("embedding")
            return Predictions(np.zeros((0, len(self.labels)), np.float32), np.zeros((0, width), np.float32))
        return Predictions(
            np.concatenate([part.logits for part in parts]), np.concatenate([part.embedding for part in parts])
        )

    def self_test(self) -> None:
        """Answer the manifest's own queries and compare. Raises VerificationError where a logit is not as published."""
        queries: list[Query] = [
            query if isinstance(query, str) else np.asarray(query, dtype=np.float32) for query in self._self_test["queries"]
        ]
        expected = np.asarray(self._self_test["logits"], dtype=np.float32)
        # One by one, as the device will be asked.
        for query, wanted in zip(queries, expected, strict=True):
            got = self.predict([query]).logits[0]
            difference = float(np.max(np.abs(got - wanted))) if got.shape == wanted.shape else float("inf")
            if not difference <= SELF_TEST_TOLERANCE:
                raise VerificationError(
                    f"self-test: a logit differs by {difference:.3g} from the published one (at most {SELF_TEST_TOLERANCE} "
                    "is accepted): this machine computes the model differently"
                )

    def _run(self, queries: Sequence[Query]) -> Predictions:
        logits, embedding = self._session.run(["logits", "embedding"], self._features.encode(list(queries)))
        if logits.shape != (len(queries), len(self.labels)):
            raise VerificationError(
                f"infer.onnx gave logits {logits.shape} for {len(queries)} queries and {len(self.labels)} labels"
            )
        return Predictions(logits, embedding)

    def _width(self, name: str) -> int:
        shape = next(output.shape for output in self._session.get_outputs() if output.name == name)
        return shape[-1] if isinstance(shape[-1], int) else 0


@dataclass(frozen=True, slots=True)
class LoadedRelease:
    """A verified release and its running model."""

    release: Release
    release_id: str
    session: InferenceSession


class ReleaseLoader:
    """Verifies releases under one release key and loads them; remembers the last few so as not to do it twice.

    With a ``trial`` models that are new to it are loaded in a process with limits first. A simulated fleet needs none: its
    releases are its own.
    """

    def __init__(
        self,
        release_key: Ed25519PublicKey,
        *,
        sessions: SessionCache | None = None,
        remembered: int = 3,
        trial: LoadingTrial | None = None,
    ) -> None:
        self.release_key = release_key
        self._trial = trial
        self._sessions = sessions or SessionCache()
        self._remembered = remembered
        # By the identity of immutable bytes objects, which the entry itself keeps alive: the same objects need no second
        # look, and bytes that came over a wire are new objects and get one.
        self._loaded: OrderedDict[tuple[int, int], tuple[bytes, bytes, LoadedRelease]] = OrderedDict()
        self._lock = threading.Lock()

    def load(
        self, manifest: bytes, signature: bytes, files: Mapping[str, bytes], *, is_known: bool = False
    ) -> LoadedRelease:
        """Verify, load and self-test a release; ``files`` by hex SHA-256 may hold others too.

        ``is_known``: this device has loaded it before, so that no trial is needed. Raises VerificationError that names the
        first thing that does not hold, TrialFailedError where a trial cannot be made now.
        """
        key = (id(manifest), id(signature))
        with self._lock:
            known = self._loaded.get(key)
        if known is not None and _same_files(known[2].release, files):
            return known[2]
        verify(self.release_key, RELEASE_DOMAIN, manifest, signature)  # before anything is parsed
        named = {name: files[digest] for name, digest in Manifest.from_bytes(manifest).files.items() if digest in files}
        release = assemble_release(manifest, signature, named, release_key=self.release_key)
        if self._trial is not None and not is_known:
            self._trial.check([release.files[INFER]])
        session = InferenceSession(release, sessions=self._sessions)
        session.self_test()
        loaded = LoadedRelease(release, release.release_id, session)
        with self._lock:
            self._loaded[key] = (manifest, signature, loaded)
            while len(self._loaded) > self._remembered:
                self._loaded.popitem(last=False)
        return loaded


def _same_files(release: Release, files: Mapping[str, bytes]) -> bool:
    return all(files.get(digest) is release.files[name] for name, digest in release.manifest.files.items())
