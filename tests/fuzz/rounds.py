"""Rounds as the aggregator and a device carry them: check-ins, Flower replies, and whole sessions with one device that lies.

Beyond the contract of every target: a session with one bad reply ends in the exact sum of the others, names the device that
left and counts what was refused.
"""

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity
from program import Program, edited_bytes
from sessions import NAMES, NOW, TASK, Cohort, altered, private_key, verify_certificate
from table import Target

from aggregator.rounds.secagg_session import (
    CHECK_IN,
    CONSISTENCY,
    ROSTER,
    SHARES,
    UNMASK,
    SessionDriver,
    SessionPlan,
    Tally,
    _read_check_in,
)
from aggregator.rounds.transport import PAYLOAD, VECTOR, DeviceLink, Exchange, Reply
from edge_client.flower.client_app import _payload
from edge_client.rounds.participant import _read_request
from fedge import secagg
from protos.fedge.rounds.v1 import rounds_pb2
from protos.fedge.secagg.v1 import secagg_pb2 as pb

STEPS = (CHECK_IN, ROSTER, SHARES, CONSISTENCY, UNMASK)
KINDS = (rounds_pb2.CheckInResponse, pb.ShareReply, pb.MaskedReply, pb.ConsistencyReply, pb.UnmaskReply)
NODES = dict(enumerate(NAMES, start=1))
LIAR = len(NAMES)


class Devices:
    """Honest devices whose answers are computed once for each course that a session can take."""

    def __init__(self):
        self.cohort = Cohort(len(NAMES))
        self.cohort.check_in()
        self.first = dict(self.cohort.states)
        self.known = {}

    def restart(self):
        self.states = {name: (state, ()) for name, state in self.first.items()}

    def answer(self, action, name, message):
        """(payload, vector) of an honest device."""
        if action == CHECK_IN:
            response = rounds_pb2.CheckInResponse(device_id=name, bundle=self.cohort.bundles[name])
            return response.SerializeToString(), None
        state, course = self.states[name]
        course = (*course, hash(message))
        if (name, course) not in self.known:
            self.known[name, course] = self._computed(action, name, state, message)
        after, payload, vector = self.known[name, course]
        self.states[name] = (after, course)
        return payload, vector

    def _computed(self, action, name, state, message):
        if action == ROSTER:
            return *secagg.handle_roster(state, message, self.cohort.policy()), None
        if action == SHARES:
            after, payload, vector = secagg.handle_shares(state, message, self.cohort.vectors[name])
            return after, payload, vector.tobytes()
        handle = secagg.handle_consistency if action == CONSISTENCY else secagg.handle_unmask
        return *handle(state, message), None


class LyingLink:
    """Stands for the link to the devices: the last node's reply to one action is the liar's."""

    def __init__(self, devices, action, lie):
        self.devices, self.action, self.lie = devices, action, lie

    def exchange(self, action, requests, take, *, group, timeout_s):
        for node, message in requests.items():
            reply = self.devices.answer(action, NODES[node], message)
            take(node, Reply(*(self.lie(*reply) if (node, action) == (LIAR, self.action) else reply)))
        return Exchange(frozenset(requests), {}, {}, 0, 0, 0)


DEVICES = Devices()
PLAN = SessionPlan(
    round_number=7,
    attempt=1,
    task=TASK,
    config=DEVICES.cohort.config,
    timeout_s=1.0,
)


def run_session(link):
    """The outcome of a session and what was noted on the way."""
    DEVICES.restart()
    tally = Tally()
    driver = SessionDriver(
        link,
        secagg,
        run="fleet",
        round_key=private_key("round"),
        verify_certificate=verify_certificate,
        clock=lambda: NOW,
        entropy=bytes,
    )
    return driver.run(PLAN, list(NODES), tally), tally


HONEST = {}
for _step in STEPS:
    run_session(LyingLink(DEVICES, _step, lambda *reply, step=_step: HONEST.setdefault(step, reply)))


def session(data):
    """One device's reply at one step: edited, another step's (reordered), or one of another session."""
    program = Program(data)
    step = program.number(len(STEPS))

    def lie(payload, vector):
        match program.number(5):
            case 0:
                return altered(KINDS[step].FromString(payload), program), vector
            case 1:
                return edited_bytes(payload, program), vector
            case 2:
                return HONEST[STEPS[program.number(len(STEPS))]]
            case 3:
                return payload, None if vector is None else edited_bytes(vector, program)
            case _:
                return OTHER[step]

    result, tally = run_session(LyingLink(DEVICES, STEPS[step], lie))
    lied = bool(tally.dropouts)
    assert result.cohort >= len(NAMES) - 1 and result.survivors >= len(NAMES) - 1
    assert {who for who, _ in tally.dropouts} <= {NODES[LIAR], f"node {LIAR}"} or step == 0
    assert sum(tally.refusals.values()) == len(tally.dropouts) <= 1
    left_out = lied and step < 3
    names = [name for name in NAMES if not (left_out and name == NODES[LIAR])]
    expected = DEVICES.cohort.sum_of(names)
    assert result.decoded.reals.tolist() == secagg.decode(expected, len(names), PLAN.config).reals.tolist()


def _of_another_session():
    """A device's honest replies in a session of another round."""
    other = Cohort(len(NAMES), seed=1)
    name, replies, messages = NODES[LIAR], {}, None
    for step, action in enumerate(("share", "mask", "agree", "unmask"), start=1):
        messages = other.open() if messages is None else messages
        fork = other.fork()
        if action == "mask":
            payload, vector = fork.masked(name, messages[name])
            replies[step] = payload, vector.tobytes()
        else:
            handler = {"share": "roster_reply", "agree": "consistency_reply", "unmask": "unmask_reply"}[action]
            replies[step] = getattr(fork, handler)(name, messages[name]), None
        if step < 4:
            messages = getattr(other, action)(messages)
    bundle = rounds_pb2.CheckInResponse(device_id=NODES[1], bundle=other.bundles[NODES[1]])
    return {0: (bundle.SerializeToString(), None), **replies}


OTHER = _of_another_session()


def check_in_response(data):
    _read_check_in(data)


def check_in_request(data):
    _read_request(data)


# Flower's own messages: a reply is put together from objects whose bytes a device made.

CONTENT = RecordDict(
    {PAYLOAD: ConfigRecord({PAYLOAD: b"payload"}), VECTOR: ArrayRecord({VECTOR: Array("uint8", (4,), "raw", b"abcd")})}
)


class OneReply:
    """A grid with one reply to one request, inflated as Flower's own grid does."""

    def __init__(self, contents, identifier):
        self.contents, self.identifier = contents, identifier

    def push_messages(self, messages):
        return ["request" for _ in messages]

    def pull_messages(self, identifiers):
        message = inflate_object_from_contents(self.identifier, dict(self.contents))
        message.metadata.__dict__["_reply_to_message_id"] = "request"
        return [message]


TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # without these Flower makes no messages


def _contents():
    request = Message(RecordDict(), dst_node_id=1, message_type="query.roster")
    request.metadata.__dict__["_message_id"] = "request"
    reply = Message(CONTENT, reply_to=request)
    objects = get_all_nested_objects(reply)
    return {name: each.deflate() for name, each in objects.items()}, reply.object_id


CONTENTS, REPLY = _contents()


def flower_reply(data):
    """A reply of which one object's bytes are edited."""
    program = Program(data)
    contents = dict(CONTENTS)
    name = sorted(contents)[program.number(len(contents))]
    whole = contents[name]
    end = whole.index(b"\0") + 1
    contents[name] = whole[:end] + edited_bytes(whole[end:], program) if program.number(2) else edited_bytes(whole, program)
    link = DeviceLink(OneReply(contents, REPLY), clock=lambda: NOW, sleep=lambda _: None)
    taken = []
    exchange = link.exchange("query.roster", {1: b""}, lambda _, reply: taken.append(reply), group="1.1", timeout_s=0.0)
    for reply in taken:
        assert type(reply.payload) is bytes and isinstance(reply.vector, bytes | None)
    assert len(taken) == len(exchange.answered)
    for error in exchange.refused.values():
        raise error


def flower_request(data):
    """What a device takes for a payload, whatever stands in the record."""
    program = Program(data)
    values = (b"payload", "text", 1, 0.5, [b"list"], True, program.take(16))
    record = ConfigRecord({("payload", "other")[program.number(2)]: values[program.number(len(values))]})
    message = Message(RecordDict({("payload", "other")[program.number(2)]: record}), dst_node_id=1, message_type="query.x")
    assert type(_payload(message)) is bytes


TARGETS = {
    "rounds.session": Target(decode=session, seeds=tuple(bytes([step]) for step in range(5)), runs=300),
    "rounds.check_in_response": Target(
        decode=check_in_response, seeds=(rounds_pb2.CheckInResponse(device_id="device-02").SerializeToString(),)
    ),
    "rounds.check_in_request": Target(
        decode=check_in_request, seeds=(rounds_pb2.CheckInRequest(round=1, task=TASK.to_message()).SerializeToString(),)
    ),
    "rounds.flower_reply": Target(decode=flower_reply, seeds=(b"", b"\1", b"\2\1"), runs=1_000),
    "rounds.flower_request": Target(decode=flower_request, seeds=(b"",), runs=1_000),
}
