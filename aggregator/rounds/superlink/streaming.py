"""One HTTPS request to SuperLink whose bodies pass in pieces, so that no body ever stands in memory as a whole.

Every method blocks on the socket alone; call them from any thread, one at a time. For large bodies: each request has a
connection of its own. Small ones go by `aggregator.rounds.superlink.runtime_client`.
"""

import http.client
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from aggregator.rounds.superlink.runtime_client import open_connection


class StreamedRequest:
    """A POST to ``address`` (host:port), checked against the PEM text that ``authority`` gives."""

    def __init__(self, address: str, authority: Callable[[], str], *, timeout_s: float) -> None:
        self._connection = open_connection(address, authority(), timeout_s=timeout_s)
        self._response: http.client.HTTPResponse | None = None

    def begin(self, path: str, headers: Mapping[str, str], size_bytes: int) -> None:
        """Send the head of a request whose body has ``size_bytes``. Raises OSError."""
        self._connection.putrequest("POST", path)
        for name, value in headers.items():
            self._connection.putheader(name, value)
        self._connection.putheader("content-length", str(size_bytes))
        self._connection.endheaders()

    def send(self, data: bytes) -> None:
        """Send the next piece of the body. Raises OSError."""
        self._connection.send(data)

    def status(self) -> int:
        """Return the answer's HTTP status once it begins. Raises OSError or HTTPException where none came."""
        self._response = self._connection.getresponse()
        return self._response.status

    def read(self, size_bytes: int) -> bytes:
        """Return the next bytes of the answer's body, empty at its end. Raises OSError, HTTPException."""
        return b"" if self._response is None else self._response.read(size_bytes)

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
