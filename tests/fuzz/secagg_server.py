"""Secure aggregation as the server meets it: bundles, dealings, vectors, complaints, signatures and shares.

Beyond the contract of every target: a reply that is refused blames the device that sent it and changes nothing, and a
session that goes on after any reply gives the exact sum of those who delivered, or says that it aborts.
"""

import copy

import numpy as np
from sessions import (
    FIRST,
    NAMES,
    NOW,
    TASK,
    Cohort,
    Program,
    altered,
    altered_body,
    cohort_before,
    outer,
    private_key,
    rebundled,
    resigned,
    verify_certificate,
)
from table import Target

from fedge import secagg
from fedge.secagg import SecAggError, keys, plain
from fedge.secagg.sharing import entry
from protos.fedge.secagg.v1 import secagg_pb2 as pb

STEPS = ("share", "mask", "agree", "unmask")
ANSWERS = ("roster_reply", "masked", "consistency_reply", "unmask_reply")
HANDLERS = ("handle_roster_reply", "handle_masked", "handle_consistency_reply", "handle_unmask_reply")
CLOSERS = ("create_share_messages", "create_consistency_messages", "create_unmask_messages", "recover")


class Waiting:
    """A session in which all but the first device have answered a step, and that device's honest answer."""

    def __init__(self, step, protocol=secagg):
        self.protocol = protocol
        self.cohort = cohort_before(STEPS[step], protocol=protocol)
        self.handle, self.close = getattr(protocol, HANDLERS[step]), getattr(protocol, CLOSERS[step])
        last = self.cohort.fork()
        for name, message in last.messages.items():
            answer = last.masked(name, message) if step == 1 else [getattr(last, ANSWERS[step])(name, message)]
            if name == FIRST:
                self.reply, *self.extra = answer
            else:
                self.handle(last.server, name, *answer)
        self.server = last.server
        self.vector = self.extra[0] if step == 1 else None
        self.spare = None

    def take(self, reply, *extra):
        """Hands the reply in. After a refusal the session is as it was; after an acceptance its stage can be closed."""
        state = self.spare or copy.deepcopy(self.server)
        self.spare = None
        before = len(state.answers)
        try:
            self.handle(state, FIRST, reply, *(extra or self.extra))
        except SecAggError as error:
            assert error.device_id == FIRST and len(state.answers) == before
            self.spare = state
            raise
        outcome = self.close(state)
        if isinstance(outcome, secagg.Outcome):
            np.testing.assert_array_equal(outcome.total, self.cohort.sum_of(outcome.survivors))


sharing, masking, agreeing, unmasking = map(Waiting, range(4))


def bundles(data):
    """A cohort of which the first device's bundle is edited, by itself or by anyone else."""
    program = Program(data)
    given = dict(BUNDLES)
    if program.number(2):
        given[FIRST] = rebundled(given[FIRST], program, key=private_key(FIRST))
    else:
        given[FIRST] = outer(pb.SignedBundle.FromString(given[FIRST]), program)
    state, _ = secagg.create_session(CONFIG, given, **OPENING)
    assert set(state.refused) <= {FIRST}
    if FIRST in state.refused:
        raise state.refused[FIRST]


_cohort = Cohort(len(NAMES))
BUNDLES, CONFIG = _cohort.check_in(), _cohort.config
OPENING = {
    "round_key": private_key("round"),
    "run": "fleet",
    "round": 7,
    "attempt": 1,
    "task": TASK,
    "verify_certificate": verify_certificate,
    "now": NOW,
    "entropy": bytes,
}


def share_reply(data):
    """A dealing edited, or one share of it edited and the dealing signed again."""
    program = Program(data)
    reply = pb.ShareReply.FromString(sharing.reply)
    if program.number(2):
        position = program.number(len(NAMES))
        reply.shares[position].ParseFromString(altered(reply.shares[position], program))
        dealing = pb.Dealing.FromString(reply.dealing.body)
        dealing.receivers[position] = entry(reply.shares[position])
        reply.dealing.body = altered_body(dealing.SerializeToString(), pb.Dealing, program)
        reply.dealing.signature = keys.sign(private_key(FIRST), "shares", reply.dealing.body)
        sharing.take(reply.SerializeToString())
    else:
        sharing.take(outer(reply, program))


def masked(data):
    """A MaskedReply edited, its body edited and signed again, or the vector beside it edited."""
    program = Program(data)
    reply, vector = pb.MaskedReply.FromString(masking.reply), masking.vector.tobytes()
    match program.number(3):
        case 0:
            masking.take(outer(reply, program), vector)
        case 1:
            signed = resigned(reply.vector, pb.MaskedVector, program, domain="vector", key=private_key(FIRST))
            masking.take(pb.MaskedReply(vector=signed).SerializeToString(), vector)
        case _:
            masking.take(masking.reply, program.rest() or vector)


def complaint(data):
    """A complaint about an honest dealer, edited and signed again: it is false, or at best unproven."""
    program = Program(data)
    body = altered_body(COMPLAINT, pb.Complaint, program)
    signed = pb.Signed(body=body, signature=keys.sign(private_key(FIRST), "complaint", body))
    reply = outer(pb.MaskedReply(complaint=signed), program)
    state = copy.deepcopy(masking.server)
    secagg.handle_masked(state, FIRST, reply, None)
    assert not any(proven for _, proven in state.complaints.values()), "an honest dealer was convicted"


_delivery = pb.ShareDelivery.FromString(masking.cohort.messages[FIRST])
COMPLAINT = pb.Complaint(
    session_id=masking.server.session_id, complainer=1, dealer=2, shown=_delivery.inbound[0], key=bytes(32)
).SerializeToString()


def consistency_reply(data):
    agreeing.take(outer(pb.ConsistencyReply.FromString(agreeing.reply), Program(data)))


def unmask_reply(data):
    unmasking.take(outer(pb.UnmaskReply.FromString(unmasking.reply), Program(data)))


PLAIN = [Waiting(step, plain) for step in range(4)]


def plain_reply(data):
    program = Program(data)
    waiting = PLAIN[program.number(4)]
    waiting.take(outer(pb.PlainStep.FromString(waiting.reply), program))


def plain_bundles(data):
    given = {**PLAIN[0].cohort.bundles}
    given[FIRST] = outer(pb.PlainBundle.FromString(given[FIRST]), Program(data))
    state, _ = plain.create_session(CONFIG, given, **OPENING)
    if FIRST in state.refused:
        raise state.refused[FIRST]


def strange_name(data):
    """Replies under names that nobody checked."""
    name = data[:64].decode("utf-8", "replace")
    state = copy.deepcopy(unmasking.server) if name == FIRST else unmasking.server
    secagg.handle_unmask_reply(state, name, unmasking.reply if name == FIRST else data)


_programs = (b"", b"\0", b"\1", b"\1\1", b"\2", b"\3")

TARGETS = {
    "server.bundles": Target(decode=bundles, seeds=_programs, runs=600),
    "server.share_reply": Target(decode=share_reply, seeds=_programs, runs=1_000),
    "server.masked": Target(decode=masked, seeds=_programs, runs=2_000),
    "server.complaint": Target(decode=complaint, seeds=_programs, runs=1_000),
    "server.consistency_reply": Target(decode=consistency_reply, seeds=_programs),
    "server.unmask_reply": Target(decode=unmask_reply, seeds=_programs, runs=2_000),
    "server.sender": Target(decode=strange_name, seeds=(FIRST.encode(), b"nobody")),
    "plain.bundles": Target(decode=plain_bundles, seeds=_programs, runs=1_000),
    "plain.server": Target(decode=plain_reply, seeds=_programs),
}
