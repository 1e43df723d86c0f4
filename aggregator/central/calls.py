"""One request on its way through central: what was asked, until when, and in whose trace."""

from contextvars import Context, copy_context
from dataclasses import dataclass, field

from protos.fedge.central.v1.central_pb2 import AnswerRequest


@dataclass(frozen=True, slots=True)
class Call:
    """``deadline``: of the caller, on the monotonic clock; None where it waits for ever. ``context``: the caller's own."""

    request: AnswerRequest
    deadline: float | None = None
    context: Context = field(default_factory=copy_context)
