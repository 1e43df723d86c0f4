"""The Flower `ClientApp` of a device: one handler a step, each of them bytes in and bytes out.

The same app runs in the simulator, in the agent and under Flower's own SuperNode; only who delivers the messages differs.
State is in the device's own store, never in Flower's context, which a restarted node loses.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from edge_client.flower.participant_socket import Steps
from edge_client.refusal import SessionRefused
from fedge import logs
from fedge.secagg import RefusedError

_log = logging.getLogger(__name__)

PAYLOAD = "payload"
VECTOR = "vector"
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024


def build_client_app(participant: Steps) -> ClientApp:
    """A `ClientApp` that acts for ``participant``."""
    app = ClientApp()

    @app.train("check_in")
    def check_in(message: Message, context: Context) -> Message:
        with _discreet():
            return _reply(message, participant.check_in(_payload(message)))

    @app.query("roster")
    def roster(message: Message, context: Context) -> Message:
        with _discreet():
            return _reply(message, participant.roster(_payload(message)))

    @app.query("shares")
    def shares(message: Message, context: Context) -> Message:
        with _discreet():
            payload, vector = participant.shares(_payload(message))
            return _reply(message, payload, vector)

    @app.query("consistency")
    def consistency(message: Message, context: Context) -> Message:
        with _discreet():
            return _reply(message, participant.consistency(_payload(message)))

    @app.query("unmask")
    def unmask(message: Message, context: Context) -> Message:
        with _discreet():
            return _reply(message, participant.unmask(_payload(message)))

    return app


@contextmanager
def _discreet() -> Iterator[None]:
    """Flower sends an exception's text to the server: only the kind of error may leave, the details stay in the
    device's log. What the participant binds to log lines (round, purpose, session) ends with the step.
    """
    with logs.context():
        try:
            yield
        except SessionRefused as refused:
            _log.info("a session's step was refused: %s", refused)
            raise  # speaks of the request alone
        except RefusedError as error:  # a rule of this device: no fault, and the log says which
            _log.warning("this device takes no part in the session: %s", error)
            raise SessionRefused(f"the device refused: {type(error).__name__}") from None
        except Exception as error:
            _log.warning("a session's step failed", exc_info=error)
            raise SessionRefused(f"the device refused: {type(error).__name__}") from None


def _payload(message: Message) -> bytes:
    """The request's bytes, capped before anything parses them."""
    record = message.content.config_records.get(PAYLOAD)
    payload = record.get(PAYLOAD) if record is not None else None
    if not isinstance(payload, bytes):
        raise SessionRefused("the request carries no payload")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise SessionRefused(f"the request has {len(payload)} bytes, more than {MAX_PAYLOAD_BYTES}")
    return payload


def _reply(message: Message, payload: bytes, vector: bytes | None = None) -> Message:
    content = RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: payload})})
    if vector is not None:
        content[VECTOR] = ArrayRecord({VECTOR: Array("uint8", (len(vector),), "fedge.raw", vector)})
    return Message(content, reply_to=message)
