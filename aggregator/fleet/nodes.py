"""The Flower node keys of the fleet's members, as the authority publishes them: for the relay and for the rounds process.

The door writes the file when someone joins or is revoked; who reads it sees a change at the next look. Public keys only.
"""

import json
from collections.abc import Mapping

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from aggregator.fleet.authority import Authority
from aggregator.settings import ServerHome
from fedge.errors import InputError
from fedge.identity.files import PUBLIC, write_file


def publish_nodes(authority: Authority, home: ServerHome) -> None:
    """Write the keys of all members that are not revoked, where that changes anything."""
    keys = {
        device.device_id: member.node_key
        for device, member in authority.devices()
        if member is not None and device.revoked_at is None
    }
    data = json.dumps(keys, indent=1, sort_keys=True).encode()
    if not home.nodes.is_file() or home.nodes.read_bytes() != data:
        write_file(home.nodes, data, mode=PUBLIC)


class PublishedNodes:
    """The published keys (P-384, PEM) by device id."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, bytes] = {}

    def keys(self) -> Mapping[str, bytes]:
        """All of them. Raises InputError where nothing is published."""
        try:
            found = self._home.nodes.stat()
            stamp = found.st_mtime_ns, found.st_ino
            if stamp != self._stamp:
                named = json.loads(self._home.nodes.read_bytes())
                self._keys = {device: _pem(key) for device, key in named.items()}
                self._stamp = stamp
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{self._home.nodes} cannot be read ({error}): start the door first") from None
        return self._keys

    def key(self, device_id: str) -> bytes | None:
        """The key that was enrolled for a device, or None."""
        return self.keys().get(device_id)


def _pem(key: str) -> bytes:
    return load_ssh_public_key(key.encode("ascii")).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
