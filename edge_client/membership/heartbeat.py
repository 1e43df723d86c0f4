"""Telling the fleet's door now and then how this device stands: release, supply, and how many questions wait for central.

A report goes out at the start, when anything but the queue has changed, and once a period. Nothing waits for it. A door that
is out of reach is a state to show. A device that the door turns away says no more until it has other certificates, and a
door that knows no reports is asked again an hour later.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import grpc

from edge_client.clock import Stopwatch, system_stopwatch
from edge_client.scheduler import Pace
from fedge.errors import FedgeError
from fedge.presence import REPORT_APART_S, Presence
from protos.fedge.fleet.v1 import presence_pb2_grpc

if TYPE_CHECKING:
    pass


@cache
def fedge_version() -> str:
    """Of the installed package; empty where fedge runs without being installed."""
    try:
        return version("fedge")
    except PackageNotFoundError:
        return ""


LOOK_S = 5.0
"""How often a device looks whether there is something to say; half as long again as the door wants between two reports."""
ASK_AGAIN_S = 3600.0
TIMEOUT_S = 5.0
_TURNED_AWAY = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

_log = logging.getLogger(__name__)


class NotReported(FedgeError):  # noqa: N818 - a state to show, not only an error
    """The door has not taken the report."""


def report_pace(period_s: float) -> Pace:
    """How often `Reporter.step` is to be called."""
    return Pace(max(LOOK_S, REPORT_APART_S), first_wait_s=LOOK_S, max_wait_s=max(LOOK_S, period_s))


class Reporter:
    """Sends what ``look`` sees. ``door``: the device's channel of the moment; ``name``: what to call the door in errors."""

    def __init__(
        self,
        door: Callable[[], grpc.Channel],
        look: Callable[[], Presence],
        *,
        name: str,
        period_s: float,
        stopwatch: Stopwatch = system_stopwatch,
        rng: random.Random | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._door = door
        self._look = look
        self._name = name
        self._period_s = period_s
        self._stopwatch = stopwatch
        self._rng = rng or random.Random()  # noqa: S311 - spreads reports in time, decides nothing
        self._timeout_s = timeout_s
        self._said: Presence | None = None
        self._due = 0.0
        self._not_before = 0.0
        self._turned_away: grpc.Channel | None = None

    def step(self) -> bool:
        """Sends a report where one is due. Returns whether the door took one. Raises NotReported."""
        channel, now = self._door(), self._stopwatch()
        if channel is self._turned_away or now < self._not_before:
            return False
        seen = self._look()
        if self._said is not None and now < self._due and replace(seen, queue=self._said.queue) == self._said:
            return False
        if not self._send(channel, seen, now):
            return False
        self._said, self._due = seen, now + self._period_s * self._rng.uniform(0.9, 1.1)
        return True

    def _send(self, channel: grpc.Channel, seen: Presence, now: float) -> bool:
        try:
            stub = presence_pb2_grpc.PresenceStub(channel)  # type: ignore[no-untyped-call]  # generated code
            stub.Report(seen.to_proto(), timeout=self._timeout_s)
        except ValueError:
            raise NotReported(f"the channel to the door at {self._name} is being opened again") from None
        except grpc.RpcError as error:
            self._refused(error, channel, now)
            return False
        return True

    def _refused(self, error: grpc.RpcError, channel: grpc.Channel, now: float) -> None:
        """What follows from the door's answer. Raises NotReported where the next step may do better."""
        call: object = error  # the stubs do not know that what a stub raises is the call as well
        code, details = (call.code(), call.details()) if isinstance(call, grpc.Call) else (None, str(error))
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return  # the one before was a moment ago: the next look says it
        if code in _TURNED_AWAY:
            self._turned_away = channel
            _log.warning("no more reports until this device has other certificates, the door says: %s", details)
        elif code is grpc.StatusCode.UNIMPLEMENTED:
            self._not_before = now + ASK_AGAIN_S
            _log.info("the door at %s takes no reports", self._name)
        elif code in _AWAY:
            raise NotReported(f"the door at {self._name} is out of reach: nobody is told how this device stands")
        else:
            raise NotReported(f"the door at {self._name} does not take the report: {details}")
