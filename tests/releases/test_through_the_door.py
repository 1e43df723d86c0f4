"""Releases reach a device that joined as any other does: through the fleet's real door, over mutual TLS."""

import pytest

from aggregator.releases.registry import ReleaseRegistry
from aggregator.releases.service import add_releases
from aggregator.releases.tuf_repository import TufRepository
from edge_client.membership.channel import DoorChannel
from edge_client.releases.inference import ReleaseLoader
from edge_client.releases.manager import ReleaseManager
from edge_client.releases.storage import FolderShelf
from edge_client.releases.tuf_source import SourceUnreachable, TufSource
from edge_client.store import open_file
from fedge.release import sign_release


@pytest.fixture
def fleet(tmp_path, fleet_parts, make_release):
    """A federation with one release, its door open; and what publishes."""
    closed = fleet_parts.Federation(tmp_path)
    registry = ReleaseRegistry(closed.home.registry, closed.keys.release.public_key())
    tuf = TufRepository(closed.home.tuf)
    tuf.create()

    def publish(version):
        made = make_release(scale=float(version), version=version)
        release_id = registry.publish(sign_release(made.manifest, made.files, closed.keys.release), at=0.0)
        registry.promote(release_id, at=0.0, reason="test")
        tuf.publish(registry)
        return release_id

    closed.services = [lambda server: add_releases(server, tuf.public)]
    with closed.open() as federation:
        yield federation, publish


def test_a_device_that_joined_takes_releases_and_a_revoked_one_gets_nothing(fleet):
    federation, publish = fleet
    first = publish(1)
    home = federation.enroll("kitchen")
    door = DoorChannel(home, home.settings().fleet)
    store = open_file(home.store)
    key = federation.keys.release.public_key()
    source = TufSource(home, door, "kitchen")
    manager = ReleaseManager(source, shelf=FolderShelf(home.releases, key), store=store, loader=ReleaseLoader(key))
    try:
        assert manager.sync().changed
        assert manager.active.loaded.release_id == first
        federation.revoke("kitchen")
        publish(2)
        with pytest.raises(SourceUnreachable):
            manager.sync()
        assert manager.active.loaded.release_id == first
    finally:
        door.close()
        store.close()
