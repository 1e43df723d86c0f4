"""What can go wrong in a session, and whose fault it is. A driver drops the device that an error blames and goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

from fedge.errors import FedgeError


class SecAggError(FedgeError):
    """Root of this package's errors. ``device_id`` is the device to blame, or None."""

    def __init__(self, message: str, *, device_id: str | None = None) -> None:
        super().__init__(message if device_id is None else f"{device_id}: {message}")
        self.device_id = device_id


class MessageError(SecAggError):
    """A message is malformed, too long, signed by someone else, or says what it must not say."""


class UnknownRoundKey(MessageError):  # noqa: N818 - a state of the device's trust, not only a fault of the message
    """A descriptor is not signed by the round key that the device pins: forged, or the key was changed in between."""


class StageError(SecAggError):
    """A message comes at a stage that has no place for it: too early, too late, or a second one that differs."""


class RefusedError(SecAggError):
    """The device does not take part: what the server asks breaks a rule that protects the device's update."""


class CodecError(SecAggError):
    """Numbers that cannot be encoded, or a sum that cannot be one of encoded vectors."""


class SessionAborted(SecAggError):  # noqa: N818 - an outcome of a session, not a mistake of its caller
    """The session ends without a sum. ``exclude`` names devices to leave out of the next attempt.

    ``is_spoiled``: everybody delivered, and the sum cannot be one of encoded vectors. One of the members lied.
    """

    def __init__(
        self, stage: str, reason: str, *, exclude: frozenset[str] = frozenset(), is_spoiled: bool = False
    ) -> None:
        super().__init__(f"the session aborts at {stage}: {reason}")
        self.stage = stage
        self.reason = reason
        self.exclude = exclude
        self.is_spoiled = is_spoiled


@contextmanager
def blaming(device_id: str) -> Iterator[None]:
    """Lets errors from within that blame nobody yet blame ``device_id``."""
    try:
        yield
    except (MessageError, StageError) as error:
        if error.device_id is not None:
            raise
        raise type(error)(str(error), device_id=device_id) from None
