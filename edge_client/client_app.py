"""The Flower `ClientApp` of a device: one handler a step, each of them bytes in and bytes out.

The same app runs in the simulator, in the agent and under Flower's own SuperNode; only who delivers the messages differs.
State is in the device's own store, never in Flower's context, which a restarted node loses.
"""

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from edge_client.participant import Participant, SessionRefused

PAYLOAD = "payload"
VECTOR = "vector"
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024


def build_client_app(participant: Participant) -> ClientApp:
    """A `ClientApp` that acts for ``participant``."""
    app = ClientApp()

    @app.train("check_in")
    def check_in(message: Message, context: Context) -> Message:
        return _reply(message, participant.check_in(_payload(message)))

    @app.query("roster")
    def roster(message: Message, context: Context) -> Message:
        return _reply(message, participant.roster(_payload(message)))

    @app.query("shares")
    def shares(message: Message, context: Context) -> Message:
        payload, vector = participant.shares(_payload(message))
        return _reply(message, payload, vector)

    @app.query("consistency")
    def consistency(message: Message, context: Context) -> Message:
        return _reply(message, participant.consistency(_payload(message)))

    @app.query("unmask")
    def unmask(message: Message, context: Context) -> Message:
        return _reply(message, participant.unmask(_payload(message)))

    return app


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
