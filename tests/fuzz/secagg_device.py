"""Secure aggregation as a device meets it: wire messages, descriptors, the server's requests, its own stored state."""

from sessions import (
    FIRST,
    NAMES,
    NOW,
    SECOND,
    Program,
    altered,
    altered_body,
    cohort_before,
    outer,
    private_key,
    rebundled,
    verify_certificate,
)
from table import Target

from fedge import secagg
from fedge.secagg import device, keys, plain
from fedge.secagg.bundle import read_bundle
from fedge.secagg.device_state import DeviceState
from fedge.secagg.session import Descriptor
from fedge.secagg.sharing import entry
from fedge.secagg.wire import LIMITS, check_positions, parse, sha256, vector_from
from protos.fedge.secagg.v1 import secagg_pb2 as pb
from protos.fedge.secagg.v1 import state_pb2

KINDS = sorted(LIMITS, key=lambda kind: kind.__name__)
ROUND_KEY = private_key("round")

at_roster, at_shares, at_consistency, at_unmask = map(cohort_before, ("share", "mask", "agree", "unmask"))
ROSTER = pb.Roster.FromString(at_roster.messages[FIRST])


def parse_any(data):
    """The first byte says which message the rest is to be."""
    message = parse(KINDS[data[0] % len(KINDS)] if data else KINDS[0], data[1:])
    for field, value in message.ListFields():
        if field.is_repeated and field.name in ("sharers", "survivors", "members"):
            check_positions(field.name, value, 4)


def of_kind(message):
    return bytes([KINDS.index(type(message))]) + message.SerializeToString()


def bundle(data):
    program = Program(data)
    original = at_roster.bundles[FIRST]
    if program.number(2):
        message = rebundled(original, program, key=private_key(FIRST))
    else:
        message = outer(pb.SignedBundle.FromString(original), program)
    read_bundle(message, verify_certificate=verify_certificate, now=NOW)


def descriptor(data):
    program = Program(data)
    Descriptor.from_bytes(altered_body(ROSTER.descriptor, pb.Descriptor, program)).to_bytes()


def roster(data):
    """A Roster with its fields, its descriptor or a peer's bundle edited; hashes and signatures are made to fit again."""
    program = Program(data)
    message = pb.Roster.FromString(ROSTER.SerializeToString())
    which = program.number(4)
    if which == 0:
        device.handle_roster(at_roster.states[FIRST], outer(message, program), at_roster.policy())
        return
    if which == 1:
        message.descriptor = altered_body(message.descriptor, pb.Descriptor, program)
    else:
        position = 1 + program.number(3)
        message.bundles[position] = rebundled(message.bundles[position], program, key=private_key(NAMES[position]))
        signed = pb.Descriptor.FromString(message.descriptor)
        signed.roster[position].bundle_sha256 = sha256(message.bundles[position])
        message.descriptor = signed.SerializeToString()
    message.signature = keys.sign(ROUND_KEY, "descriptor", message.descriptor)
    device.handle_roster(at_roster.states[FIRST], message.SerializeToString(), at_roster.policy())


def shares(data):
    """A ShareDelivery edited, or one dealer's share edited and signed again by that dealer."""
    program = Program(data)
    message = pb.ShareDelivery.FromString(at_shares.messages[FIRST])
    if program.number(2):
        inbound = message.inbound[0]
        inbound.share.ParseFromString(altered(inbound.share, program))
        dealing = pb.Dealing.FromString(inbound.dealing.body)
        dealing.receivers[0] = entry(inbound.share)
        inbound.dealing.body = altered_body(dealing.SerializeToString(), pb.Dealing, program)
        inbound.dealing.signature = keys.sign(private_key(SECOND), "shares", inbound.dealing.body)
        data = message.SerializeToString()
    else:
        data = outer(message, program)
    device.handle_shares(at_shares.states[FIRST], data, at_shares.vectors[FIRST])


def consistency(data):
    program = Program(data)
    message = pb.ConsistencyRequest.FromString(at_consistency.messages[FIRST])
    if program.number(2):
        message.consistency = altered_body(message.consistency, pb.Consistency, program)
    device.handle_consistency(at_consistency.states[FIRST], outer(message, program))


def unmask(data):
    """An UnmaskRequest edited; or its consistency edited and endorsed anew by everyone who stands in it."""
    program = Program(data)
    message = pb.UnmaskRequest.FromString(at_unmask.messages[FIRST])
    if program.number(2):
        message.consistency = altered_body(message.consistency, pb.Consistency, program)
        for endorsement in message.endorsements:
            name = NAMES[endorsement.device - 1]
            endorsement.signature = keys.sign(private_key(name), "consistency", message.consistency)
    device.handle_unmask(at_unmask.states[FIRST], outer(message, program))


# The device's own stored state: damaged on the disk, it must be discarded in words, and never used.

STATES = [cohort.states[FIRST] for cohort in (at_roster, at_shares, at_consistency, at_unmask)]
_done = at_unmask.fork()
_done.unmask(_done.messages)
STATES.append(_done.states[FIRST])


def stored_state(data):
    """A state of the phase that the first byte names, edited; a state that is taken goes on to answer the next request."""
    program = Program(data)
    which = program.number(len(STATES))
    message = state_pb2.DeviceState.FromString(STATES[which].to_bytes())
    if which and program.number(4) == 3:
        message.descriptor = altered_body(message.descriptor, pb.Descriptor, program)
    state = DeviceState.from_bytes(outer(message, program), identity_key=private_key(FIRST))
    answer_all(secagg, state)


def plain_state(data):
    program = Program(data)
    which = program.number(len(PLAIN))
    message = state_pb2.DeviceState.FromString(PLAIN[which].states[FIRST].to_bytes())
    state = DeviceState.from_bytes(outer(message, program), identity_key=private_key(FIRST))
    answer_all(plain, state, PLAIN)


def answer_all(protocol, state, cohorts=(at_roster, at_shares, at_consistency, at_unmask)):
    """Hands a restored state every request that a session has; refusals are answers."""
    policy, vector = cohorts[0].policy(), cohorts[0].vectors[FIRST]
    first, second, third, fourth = (cohort.messages[FIRST] for cohort in cohorts)
    state.to_bytes()
    protocol.expire(state, now=NOW)
    for step in (
        lambda: protocol.handle_roster(state, first, policy),
        lambda: protocol.handle_shares(state, second, vector),
        lambda: protocol.handle_consistency(state, third),
        lambda: protocol.handle_unmask(state, fourth),
    ):
        Target(decode=lambda _, step=step: step(), seeds=()).run(b"")


def vector(data):
    vector_from(data, at_roster.config)


# The stand-in without masks.

PLAIN = [cohort_before(stage, protocol=plain) for stage in ("share", "mask", "agree", "unmask")]


def plain_step(data):
    """The request of the step that the first byte names."""
    program = Program(data)
    step = program.number(4)
    cohort = PLAIN[step]
    state = cohort.states[FIRST]
    if step == 0:
        message = pb.Roster.FromString(cohort.messages[FIRST])
        if program.number(2):
            message.descriptor = altered_body(message.descriptor, pb.Descriptor, program)
            message.signature = keys.sign(ROUND_KEY, "descriptor", message.descriptor)
        plain.handle_roster(state, outer(message, program), cohort.policy())
        return
    request = outer(pb.PlainStep.FromString(cohort.messages[FIRST]), program)
    if step == 1:
        plain.handle_shares(state, request, cohort.vectors[FIRST])
    else:
        (plain.handle_consistency if step == 2 else plain.handle_unmask)(state, request)


def record(data):
    program = Program(data)
    body = altered_body(pb.Signed.FromString(RECORD).body, pb.Record, program)
    signed = pb.Signed(body=body, signature=keys.sign(ROUND_KEY, "record", body))
    secagg.read_record(outer(signed, program), ROUND_KEY.public_key())


RECORD = cohort_before("unmask").fork()
RECORD = RECORD.unmask(RECORD.messages).record
_messages = [
    ROSTER,
    pb.Descriptor.FromString(ROSTER.descriptor),
    pb.SignedBundle.FromString(ROSTER.bundles[0]),
    pb.ShareDelivery.FromString(at_shares.messages[FIRST]),
    pb.ConsistencyRequest.FromString(at_consistency.messages[FIRST]),
    pb.UnmaskRequest.FromString(at_unmask.messages[FIRST]),
    pb.ShareReply.FromString(at_shares.states[FIRST].reply),
    pb.MaskedReply.FromString(at_consistency.states[FIRST].reply),
    pb.PlainStep.FromString(PLAIN[1].messages[FIRST]),
]
_programs = (b"", b"\0", b"\1", b"\2\1", b"\3\2")

TARGETS = {
    "secagg.wire": Target(decode=parse_any, seeds=tuple(map(of_kind, _messages))),
    "secagg.bundle": Target(decode=bundle, seeds=_programs),
    "secagg.descriptor": Target(decode=descriptor, seeds=_programs),
    "secagg.vector": Target(decode=vector, seeds=(at_roster.vectors[FIRST].tobytes(),)),
    "secagg.record": Target(decode=record, seeds=_programs),
    "device.roster": Target(decode=roster, seeds=_programs, runs=600),
    "device.shares": Target(decode=shares, seeds=_programs, runs=1_000),
    "device.consistency": Target(decode=consistency, seeds=_programs),
    "device.unmask": Target(decode=unmask, seeds=_programs),
    "device.state": Target(decode=stored_state, seeds=_programs, runs=1_000),
    "plain.device": Target(decode=plain_step, seeds=_programs),
    "plain.state": Target(decode=plain_state, seeds=_programs, runs=2_000),
}
