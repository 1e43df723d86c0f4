"""Files of a TUF repository over the fleet's door, for TUF's client: capped, resumable, and never believed as such.

Targets are collected in a folder as they come in, so that a device that loses its connection, or is killed, goes on from the
bytes that it has. What was collected is worth nothing until TUF's client has verified it: `forget` drops what was not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import grpc
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient.fetcher import FetcherInterface

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
