"""Which Flower node belongs to which device: read from the enrolment by the door, published for the rounds process.

The rounds process must not read the enrolment authority's folder, so the door writes the public node keys into a file of
their own. It does so as soon as it meets a device that the file lacks. Holds nothing secret.
"""

import json
import time
from collections.abc import Mapping
from threading import Lock

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from aggregator.fleet.authority import Authority
from aggregator.fleet.published import PublishedRevocations
from aggregator.settings import ServerHome
from fedge.errors import FedgeError, InputError
from fedge.identity.files import PUBLIC, read_file, write_file

LOOK_EVERY_S = 0.5
MAX_FILE_BYTES = 16 << 20


class EnrolledNodes:
    """The door's side: `key` of a device, and the published file kept up to date."""

    def __init__(self, authority: Authority, home: ServerHome) -> None:
        self._authority = authority
        self._home = home
        self._keys: dict[str, bytes] = {}
        self._looked = -LOOK_EVERY_S
        self._lock = Lock()
        self.publish()

    def key(self, device_id: str) -> bytes | None:
        """The node key (PEM) enrolled for a device, as it is now or was half a second ago; None where there is none."""
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self.publish()
        return self._keys.get(device_id)

    def publish(self) -> None:
        """Read the enrolment again, and write the file where something has changed."""
        with self._lock:
            listed = {
                member.device_id: member.node_key
                for device, member in self._authority.devices()
                if member is not None and device.revoked_at is None
            }
            data = json.dumps(listed, sort_keys=True).encode()
            path = self._home.nodes
            if not path.is_file() or path.read_bytes() != data:
                write_file(path, data, mode=PUBLIC)
            self._keys = _pem(listed)
            self._looked = time.monotonic()


class PublishedNodes:
    """The rounds process's side: the keys of all devices that may take part, read again when the file or the revocation
    list has changed.
    """

    def __init__(self, home: ServerHome) -> None:
        self._home = home
        self._revocations = PublishedRevocations(home)
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, bytes] = {}

    def __call__(self) -> Mapping[str, bytes]:
        """Node keys (PEM) by device id. Raises InputError for a file that cannot be read."""
        revoked = self._revocations.current().device_ids
        try:
            found = self._home.nodes.stat()
        except FileNotFoundError:
            return {}  # no device has joined yet
        stamp = found.st_mtime_ns, found.st_ino
        if stamp != self._stamp:
            try:
                self._keys = _pem(json.loads(read_file(self._home.nodes, max_bytes=MAX_FILE_BYTES)))
            except (ValueError, AttributeError) as error:
                raise InputError(f"{self._home.nodes} cannot be read ({error}): restart the door") from error
            self._stamp = stamp
        return {device: key for device, key in self._keys.items() if device not in revoked}


def _pem(listed: Mapping[str, str]) -> dict[str, bytes]:
    return {device: _one_pem(device, text) for device, text in listed.items()}


def _one_pem(device: str, text: str) -> bytes:
    try:
        return load_ssh_public_key(text.encode("ascii")).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FedgeError(f"the node key of device {device!r} cannot be read: enroll it again") from error
