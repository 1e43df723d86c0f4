"""A simulated device's way to the aggregator's release registry, without a network in between.

The files of a release are read from the registry once and handed to all devices as the same immutable objects: each device
still decides what it lacks, what it downloads is still counted, and each verifies what it gets.
"""

from collections.abc import Collection

from aggregator.releases.registry import ReleaseRegistry
from edge_client.releases.manager import Latest, ReleasePieces
from fedge.release import Manifest


class RegistrySource:
    """A `ReleaseSource` over a registry in this process; one for a whole fleet."""

    def __init__(self, registry: ReleaseRegistry) -> None:
        self._registry = registry
        self._pieces: dict[str, ReleasePieces] = {}
        self._latest: Latest | None = None

    def refresh(self) -> None:
        """Look again at what is active; devices see a change only after this."""
        release_id = self._registry.active()
        document = None if release_id is None else self._registry.certificate(release_id)
        self._latest = Latest(release_id, None if document is None else document.to_bytes())

    def latest(self) -> Latest:
        """The desired state as of the last `refresh`."""
        if self._latest is None:
            self.refresh()
        assert self._latest is not None
        return self._latest

    def fetch(self, release_id: str, have: Collection[str]) -> ReleasePieces:
        """The pieces of a release but for the files that the device has."""
        if release_id not in self._pieces:
            manifest, signature = self._registry.manifest(release_id)
            hashes = Manifest.from_bytes(manifest).files.values()
            self._pieces = {
                release_id: ReleasePieces(manifest, signature, {digest: self._registry.file(digest) for digest in hashes})
            }
        whole = self._pieces[release_id]
        return ReleasePieces(
            whole.manifest, whole.signature, {digest: data for digest, data in whole.files.items() if digest not in have}
        )
