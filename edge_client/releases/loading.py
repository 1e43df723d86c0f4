"""From the bytes of a release to something that answers: verified, loaded, tested on this machine, or refused.

Nothing is answered with it yet: that is `edge_client.releases.manager`. One loader serves a whole simulated fleet, since all
three steps depend on the bytes and the machine alone; a device simply has one of its own.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge_client.releases.inference import InferenceSession, SessionCache
from edge_client.releases.trial import LoadingTrial
from fedge.release import INFER, Manifest, Release, assemble_release, verify
from fedge.release.folder import RELEASE_DOMAIN


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
