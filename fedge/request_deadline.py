"""A deadline for HTTP requests to arrive, on top of uvicorn's protocols, which wait for ever for the rest of a request.

A client that opens connections and sends a byte now and then would otherwise hold each of them, and its memory, as long as
it likes. Time that the answer takes is not counted.
"""

from asyncio import TimerHandle
from typing import Any

REQUEST_TIMEOUT_S = 20.0
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def with_deadline(protocol: type[Any], timeout_s: float = REQUEST_TIMEOUT_S) -> type[Any]:
    """Return uvicorn's ``protocol`` with a deadline: a request, head and body, arrives in ``timeout_s`` or is cut off.

    The time runs from the connection's start, and then from the first byte of each further request.
    """

    class DeadlineProtocol(protocol):  # type: ignore[misc]  # one of two classes, whichever is installed
        _deadline: TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._arm()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_answering():
                self._disarm()
            elif self._deadline is None:
                self._arm()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)

        def _is_answering(self) -> bool:
            """Return whether a whole request is there and its answer is not complete."""
            return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

        def _arm(self) -> None:
            self._deadline = self.loop.call_later(timeout_s, self._cut_off)

        def _disarm(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _cut_off(self) -> None:
            self._deadline = None
            if self.transport.is_closing():
                return
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_TIMED_OUT)
                self.transport.close()
            else:  # an answer may have begun
                self.transport.abort()

    return DeadlineProtocol
