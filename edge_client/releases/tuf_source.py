"""Releases as TUF offers them: a `ReleaseSource` that believes only what the pinned root's chain of signatures vouches for.

TUF decides what is current (no rollback, no freeze, no mixture of old and new); the release key's own signature on the
manifest is checked again when it is loaded. Files that the device has, of whichever release, are not downloaded again. It
installs nothing.

Files of a TUF repository over the fleet's door, for TUF's client: capped, resumable, and never believed as such.

Targets are collected in a folder as they come in, so that a device that loses its connection, or is killed, goes on from the
bytes that it has. What was collected is worth nothing until TUF's client has verified it: `forget` drops what was not.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

import grpc
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]  # not in an __all__
from tuf.ngclient import Updater, UpdaterConfig  # type: ignore[attr-defined]  # not in an __all__
from tuf.ngclient.fetcher import FetcherInterface

from edge_client.releases.manager import Latest, ReleasePieces
from edge_client.settings import DeviceHome
from fedge.errors import FedgeError, VerificationError
from fedge.release import CANARY, FILE_NAMES, STABLE, ChannelPointer, Manifest, in_canary
from fedge.release.channels import MAX_POINTER_BYTES, file_path, pointer_path, signature_path
from fedge.release.document import MAX_DOCUMENT_BYTES
from fedge.release.folder import MANIFEST_NAME, SIGNATURE_NAME
from fedge.release.manifest import MAX_MANIFEST_BYTES
from fedge.release.onnx_checks import MAX_MODEL_BYTES
from fedge.release.signing import SIGNATURE_BYTES
from protos.fedge.fleet.v1 import releases_pb2

TARGETS = "targets/"
PART = ".part"
_FETCH = "/fedge.fleet.v1.Releases/Fetch"
_NO_SUCH_FILE = 404
_GONE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


class DoorFetcher(FetcherInterface):
    """TUF's way to the door. ``channel`` is asked for each file: a renewed certificate means a new channel."""

    def __init__(self, channel: Callable[[], grpc.Channel], partial: Path, *, timeout_s: float) -> None:
        self._channel = channel
        self._partial = partial
        self._timeout_s = timeout_s
        self.received_bytes = 0

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._pieces(url, 0)

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Metadata as TUF's client does it; a target, whose exact length is known, from where it was left."""
        if not url.startswith(TARGETS):
            with super().download_file(url, max_length) as file:
                yield file
            return
        path = self._path(url)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a+b") as file:
            have = file.tell()
            if have > max_length:
                file.truncate(0)
                have = 0
            if have < max_length:
                self._append(url, file, have, max_length)
            file.seek(0)
            yield file

    def forget(self, url: str) -> None:
        """Drop what was collected of a target."""
        self._path(url).unlink(missing_ok=True)

    def _append(self, url: str, file: IO[bytes], have: int, wanted: int) -> None:
        for data in self._pieces(url, have):
            have += len(data)
            if have > wanted:
                file.truncate(0)
                raise DownloadLengthMismatchError(f"{url} is longer than the {wanted} bytes that were announced")
            file.write(data)
            file.flush()
        if have < wanted:
            raise DownloadError(f"{url} ended after {have} of {wanted} bytes")

    def _pieces(self, url: str, offset: int) -> Iterator[bytes]:
        request = releases_pb2.FetchRequest(path=url, offset=offset)
        # Not the generated stub: making one on a channel that was just closed (renewal) crashes the process in grpcio 1.81.
        fetch = self._channel().unary_stream(
            _FETCH,
            request_serializer=releases_pb2.FetchRequest.SerializeToString,
            response_deserializer=releases_pb2.FetchResponse.FromString,
        )
        try:
            call: Any = fetch(request, timeout=self._timeout_s)
        except ValueError as error:
            raise DownloadError(f"{error}") from None
        try:
            for response in call:
                self.received_bytes += len(response.data)
                yield response.data
        except grpc.RpcError as error:
            # What a call raises is the call itself, of which the type stubs know nothing.
            code, said = call.code(), call.details()
            if code in _GONE:
                raise DownloadHTTPError(f"{url} is not there", _NO_SUCH_FILE) from None
            raise DownloadError(f"{code.name if code else 'failed'}: {said or error}") from None
        finally:
            call.cancel()  # the reader may have had enough: a server that never ends must not go on sending

    def _path(self, url: str) -> Path:
        return self._partial / f"{quote(url.removeprefix(TARGETS), safe='')}{PART}"


_CONFIG = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=1,  # the repository has none
    root_max_length=64 * 1024,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=64 * 1024,
    targets_max_length=4 * 1024 * 1024,
)
_METADATA = "metadata/"


class SourceUnreachable(FedgeError):  # noqa: N818 - a state of the network
    """The door cannot be reached, or stopped in the middle: what came so far is kept, and the next try goes on."""


class TufSource:
    """Releases over the fleet's door. Safe between threads; one process a home."""

    def __init__(
        self, home: DeviceHome, channel: Callable[[], grpc.Channel], device_id: str, *, timeout_s: float = 300.0
    ) -> None:
        self._trusted = home.tuf
        self._shelf = home.releases
        self._cache = home.releases / "downloads"
        self._device_id = device_id
        self._fetcher = DoorFetcher(channel, self._cache, timeout_s=timeout_s)
        self._lock = threading.Lock()
        self._updater: Updater | None = None

    @property
    def received_bytes(self) -> int:
        """Everything that came over the wire so far, metadata included."""
        return self._fetcher.received_bytes

    def latest(self) -> Latest:
        """What this device should run, as signed and fresh. Raises SourceUnreachable, VerificationError."""
        with self._lock:
            self._updater = self._refreshed()
            pointer = self._pointer(STABLE)
            first = self._pointer(CANARY)
            if first.release_id is not None and in_canary(self._device_id, first.release_id, first.share):
                pointer = first
            document = None
            if pointer.certificate is not None:
                document = self._target(file_path(pointer.certificate), MAX_DOCUMENT_BYTES)
            self._tidy()
            return Latest(pointer.release_id, document, withdrawn=frozenset(pointer.withdrawn))

    def fetch(self, release_id: str, have: Collection[str]) -> ReleasePieces:
        """The pieces of a release that is offered. Raises SourceUnreachable, VerificationError."""
        with self._lock:
            if self._updater is None or self._updater.get_targetinfo(file_path(release_id)) is None:
                self._updater = self._refreshed()
            manifest = self._target(file_path(release_id), MAX_MANIFEST_BYTES)
            signature = self._target(signature_path(release_id), SIGNATURE_BYTES)
            hashes = Manifest.from_bytes(manifest).files.values()
            files = {digest: self._target(file_path(digest), MAX_MODEL_BYTES) for digest in hashes if digest not in have}
            return ReleasePieces(manifest, signature, files)

    def _refreshed(self) -> Updater:
        """A client whose metadata is current."""
        self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _explained():
            updater = Updater(
                str(self._trusted), _METADATA, str(self._cache), TARGETS, fetcher=self._fetcher, config=_CONFIG
            )
            updater.refresh()
        return updater

    def _pointer(self, channel: str) -> ChannelPointer:
        return ChannelPointer.from_bytes(self._target(pointer_path(channel), MAX_POINTER_BYTES))

    def _target(self, path: str, max_bytes: int) -> bytes:
        """A target's bytes, from this device where it has them. Verified against the signed metadata either way."""
        assert self._updater is not None
        target = self._updater.get_targetinfo(path)
        if target is None:
            raise VerificationError(f"{path[:80]} is not among the releases that are offered")
        if target.length > max_bytes:
            raise VerificationError(f"{path[:80]} is announced with {target.length} bytes, more than {max_bytes}")
        known = _verified(target, self._known(path))
        return known if known is not None else self._download(target)

    def _download(self, target: TargetFile) -> bytes:
        assert self._updater is not None
        url = TARGETS + target.get_prefixed_paths()[0]
        with _explained():
            try:
                file = Path(self._updater.download_target(target))
            except LengthOrHashMismatchError:
                self._fetcher.forget(url)  # going on from wrong bytes would fail for ever
                raise
        self._fetcher.forget(url)
        return file.read_bytes()

    def _known(self, path: str) -> Iterable[Path]:
        """Where a target may lie already: among the downloads, or in an installed release under its own name."""
        yield self._cache / quote(path, safe="")
        yield from self._shelved().get(path, ())

    def _shelved(self) -> dict[str, list[Path]]:
        """The files of the installed releases by TUF's names, as their manifests say; who reads one verifies it."""
        found: dict[str, list[Path]] = {}
        for manifest in self._shelf.glob(f"*/{MANIFEST_NAME}"):
            try:
                hashes = Manifest.from_bytes(manifest.read_bytes()).files
            except (OSError, VerificationError):
                continue  # a damaged folder: the release manager replaces it
            folder = manifest.parent
            found[file_path(folder.name)] = [folder / MANIFEST_NAME]
            found[signature_path(folder.name)] = [folder / SIGNATURE_NAME]
            for name in FILE_NAMES:
                found.setdefault(file_path(hashes[name]), []).append(folder / name)
        return found

    def _tidy(self) -> None:
        """Drop downloads that are offered no more, or that an installed release holds as well."""
        assert self._updater is not None
        shelved = self._shelved()
        for entry in self._cache.iterdir():
            name = unquote(entry.name)
            if name.endswith(PART):
                folder, _, prefixed = name.removesuffix(PART).partition("/")
                name = f"{folder}/{prefixed.partition('.')[2]}"
            if self._updater.get_targetinfo(name) is None or name in shelved:
                entry.unlink(missing_ok=True)


def _verified(target: TargetFile, paths: Iterable[Path]) -> bytes | None:
    """The content of the first of ``paths`` that is the target."""
    for path in paths:
        try:
            if path.stat().st_size == target.length:
                data = path.read_bytes()
                target.verify_length_and_hashes(data)
                return data
        except (OSError, LengthOrHashMismatchError):
            continue
    return None


@contextmanager
def _explained() -> Iterator[None]:
    """TUF's errors as ours, with what they mean for who runs the device."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise VerificationError(
            f"releases: {error}: the server no longer renews it, someone withholds the renewal, "
            "or this device's clock is wrong"
        ) from None
    except RepositoryError as error:
        raise VerificationError(f"releases: {str(error)[:300]}") from None
    except DownloadLengthMismatchError as error:
        raise VerificationError(f"releases: {str(error)[:300]}") from None
    except DownloadError as error:
        raise SourceUnreachable(f"releases cannot be fetched: {str(error)[:300]}") from None
    except OSError as error:
        raise FedgeError(f"releases: {error.filename or 'the TUF folder'}: {error.strerror}") from None
