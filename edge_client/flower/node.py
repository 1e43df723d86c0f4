"""The embedded Flower node: takes part in rounds from inside the device's own process.

Pulls messages, hands each to the device's own `ClientApp` and pushes the answer: every few tens of milliseconds while a
round is on, about once a second otherwise. SuperLink may go and come back at any time; the node reports for duty again by
itself. It never runs code that came over the network: a run's bundle is not even asked for.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from edge_client.flower.fleet_api import FleetApi, FleetRefused, FleetUnreachable, Post
from edge_client.refusal import SessionRefused

_log = logging.getLogger(__name__)

# Flower's code for "the ClientApp raised an exception".
CLIENT_APP_RAISED = 2
UNKNOWN_NODE = (401, 403)
HEARTBEAT_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the node asks, in seconds; each wait is drawn around its value so that a fleet does not ask in step.

    After a message it asks again after ``busy_s``; every empty answer makes the wait longer by ``growth`` up to ``idle_s``.
    While SuperLink is away, waits double from ``retry_s`` up to ``retry_max_s``.
    """

    busy_s: float = 0.02
    growth: float = 1.15
    idle_s: float = 1.0
    retry_s: float = 0.25
    retry_max_s: float = 5.0
    jitter: float = 0.3


@dataclass(slots=True)
class NodeStatus:
    """What the node is doing, for whoever shows it: read it, never write it."""

    connected: bool = False
    node_id: int = 0
    messages: int = 0
    last_message: float | None = None
    last_error: str = ""


@dataclass(slots=True)
class EmbeddedNode:
    """One node. `run` works until ``stop`` is set; ``status`` may be read from other threads."""

    post: Post
    key: ec.EllipticCurvePrivateKey
    app: ClientApp
    stop: threading.Event
    pace: Pace = field(default_factory=Pace)
    clock: Callable[[], float] = time.time
    status: NodeStatus = field(default_factory=NodeStatus)
    _random: random.Random = field(default_factory=random.Random)

    def run(self) -> None:
        """Take part in rounds until told to stop. Raises InputError for a release of flwr that does not fit."""
        api = FleetApi(self.post, self.key)
        wait = self.pace.retry_s
        while not self.stop.is_set():
            try:
                self._serve(api)
                wait = self.pace.retry_s
            except (FleetUnreachable, FleetRefused) as error:
                if self.status.connected:
                    wait = self.pace.retry_s
                self._away(error)
                self._rest(wait)
                wait = min(2 * wait, self.pace.retry_max_s)

    def _serve(self, api: FleetApi) -> None:
        """From activation until told to stop; raises when SuperLink goes away or forgets this node."""
        self.status.node_id = api.activate()
        self.status.connected, self.status.last_error = True, ""
        _log.info("node %s takes part in rounds", api.node_id)
        gone = threading.Event()
        heart = threading.Thread(target=self._beat, args=(api, gone), name="node-heartbeat", daemon=True)
        heart.start()
        try:
            self._pull(api, gone)
        finally:
            gone.set()
            heart.join()
        try:
            api.deactivate()
        except (FleetUnreachable, FleetRefused):
            _log.debug("SuperLink was not told that this node goes")
        self.status.connected = False

    def _pull(self, api: FleetApi, gone: threading.Event) -> None:
        wait = self.pace.busy_s
        while not self.stop.is_set():
            if gone.is_set():
                raise FleetUnreachable("SuperLink does not know this node any more")
            try:
                message = api.pull()
                if message is None:
                    wait = min(wait * self.pace.growth, self.pace.idle_s)
                else:
                    self._answer(api, message)
                    wait = self.pace.busy_s
            except FleetRefused as error:
                if error.status in UNKNOWN_NODE:
                    raise
                # A message whose run has ended in between, or that is no message: the next one may be better.
                self.status.last_error = str(error)
                _log.warning("a message was given up: %s", error)
            self._rest(wait)

    def _answer(self, api: FleetApi, message: Message) -> None:
        started = time.perf_counter()
        metadata = message.metadata
        context = Context(run_id=metadata.run_id, node_id=api.node_id, node_config={}, state=RecordDict(), run_config={})
        try:
            reply = self.app(message=message, context=context)
        except Exception as error:  # whatever a handler raises: the node goes on, and only the app's own words leave
            if not isinstance(error, SessionRefused):  # of those the app has told, with the round and the session
                _log.info("a message of type %s was refused: %s", metadata.message_type, error)
            reply = Message(Error(CLIENT_APP_RAISED, str(error)[:300]), reply_to=message)
        self.status.messages += 1
        self.status.last_message = self.clock()
        api.push(reply, runtime_s=time.perf_counter() - started)

    def _beat(self, api: FleetApi, gone: threading.Event) -> None:
        """Says that this node is there, also while its app trains."""
        while not gone.wait(self._around(HEARTBEAT_EVERY_S)):
            try:
                if not api.heartbeat():
                    gone.set()
            except (FleetUnreachable, FleetRefused) as error:
                _log.debug("a heartbeat was not heard: %s", error)

    def _away(self, error: Exception) -> None:
        if self.status.connected or not self.status.last_error:
            _log.warning("rounds go on without this device for now: %s", error)
        self.status.connected, self.status.last_error = False, str(error)

    def _rest(self, seconds: float) -> None:
        self.stop.wait(self._around(seconds))

    def _around(self, seconds: float) -> float:
        return seconds * (1.0 + self.pace.jitter * (2.0 * self._random.random() - 1.0))


def run_node(post: Post, key: ec.EllipticCurvePrivateKey, app: ClientApp, *, stop: threading.Event) -> None:
    """Take part in rounds with ``app`` until ``stop`` is set; for a thread of the device's process."""
    EmbeddedNode(post, key, app, stop).run()
