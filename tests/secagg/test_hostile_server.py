"""A server that sends one device whatever it likes, in any order, altered or replayed: what never happens.

The attacker owns the round key and all other identities of the cohort, so everything that it sends can be signed. It only
lacks the device's own keys.
"""

import os
import random

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from secagg_cohort import Cohort, private_key

from fedge import secagg
from fedge.secagg import DeviceState, Phase, SecAggError, keys
from protos.fedge.secagg.v1 import secagg_pb2 as pb

ME, N, N_MIN = "device-02", 5, 4
# A device ends after five good steps; the rest of a run goes into replays and alterations of what it answered.
STEPS_A_DEVICE = 40
STEPS = int(os.environ.get("FEDGE_HOSTILE_STEPS", "10000"))
EVERYONE = set(range(1, N + 1))
# Mostly sets that a device can accept, so that the machine gets to the last step, and anything else besides.
SETS = st.one_of(st.just(EVERYONE), st.just(EVERYONE - {5}), st.sets(st.integers(1, N)))
ORDER = [Phase.BUNDLED, Phase.SHARED, Phase.MASKED, Phase.AGREED, Phase.REVEALED]


class HostileServer(RuleBasedStateMachine):
    """Drives one device. `vectors` and `reveals` are what it ever let out."""

    @initialize()
    def prepare(self):
        self.cohort = Cohort(N, n_min=2)
        self.cohort.check_in()
        self.rosters, self.deliveries, self.accepted = [], {}, []
        self.last_accepted = None
        self.vectors, self.reveals, self.replies = set(), [], {}
        self.phase = Phase.BUNDLED
        for n_min, (number, attempt) in ((2, (9, 1)), (N_MIN, (1, 1)), (N_MIN, (1, 2)), (N_MIN, (0, 5))):
            self.cohort.config = secagg.SessionConfig(**{**config_values(self.cohort), "n_min": n_min})
            self.rosters.append(self.cohort.open(round=number, attempt=attempt)[ME])
        self.peers = {name: state for name, state in self.cohort.states.items() if name != ME}

    @property
    def state(self) -> DeviceState:
        return self.cohort.states[ME]

    def send(self, handler, message, *arguments):
        """Sends one message; keeps what comes back. A refusal must leave the state alone."""
        before = self.state.to_bytes()
        try:
            state, reply, *vector = getattr(secagg, handler)(self.state, message, *arguments)
        except SecAggError:
            assert self.state.to_bytes() == before
            return None
        self.cohort.keep(ME, state)
        known = self.replies.setdefault((handler, message), reply)
        assert known == reply, "the same request gets the same answer"
        if vector and vector[0] is not None:
            self.vectors.add(vector[0].tobytes())
        return reply

    @rule(
        index=st.sampled_from([1, 1, 2, 0, 3]),
        last=st.sampled_from([None, None, (1, 1)]),
        altered=st.sampled_from([False, False, True]),
    )
    def roster(self, index, last, altered):
        message = self.rosters[index]
        if altered:
            roster = pb.Roster.FromString(message)
            descriptor = pb.Descriptor.FromString(roster.descriptor)
            descriptor.task.weights_sha256 = "f" * 64
            roster.descriptor = descriptor.SerializeToString()
            roster.signature = keys.sign(private_key("round"), "descriptor", roster.descriptor)
            message = roster.SerializeToString()
        first_time = self.state.phase is Phase.BUNDLED
        reply = self.send("handle_roster", message, self.cohort.policy(n_min=N_MIN, last_accepted=last))
        if reply is not None and first_time:
            assert not altered and index != 0, "a wrong model or a cohort below its n_min is never accepted"
            assert last is None or self.state.accepted > last
            self.accepted.append(message)
            self.deal(message, reply)

    def deal(self, message, reply):
        """All other devices work for the server: they answer the roster that this device accepted."""
        session = self.state.session
        dealings = {session.position(ME): pb.ShareReply.FromString(reply)}
        for name, state in self.peers.items():
            self.cohort.states[name] = state
            answer = self.cohort.roster_reply(name, message)
            dealings[session.position(name)] = pb.ShareReply.FromString(answer)
        self.dealings = dealings

    @precondition(lambda self: self.accepted)
    @rule(sharers=SETS, spoiled=st.sampled_from([None, None, None, 1, 4]), bump=st.integers(0, 3))
    def shares(self, sharers, spoiled, bump):
        delivery = pb.ShareDelivery(session_id=self.state.session.session_id, sharers=sorted(sharers))
        own = self.state.session.position(ME)
        for dealer in sorted(sharers - {own}):
            share = self.dealings[dealer].shares[own - 1]
            delivery.inbound.add(dealing=self.dealings[dealer].dealing, share=share)
            if dealer == spoiled:
                delivery.inbound[-1].share.ciphertext = bytes(146)
        vector = self.cohort.vectors[ME] + np.uint32(bump)
        self.send("handle_shares", delivery.SerializeToString(), vector)

    @precondition(lambda self: self.accepted)
    @rule(survivors=SETS, other_sharers=st.sampled_from([False, False, True]))
    def consistency(self, survivors, other_sharers):
        body = self.consistency_body(survivors, other_sharers)
        self.send("handle_consistency", pb.ConsistencyRequest(consistency=body).SerializeToString())

    def consistency_body(self, survivors, other_sharers=False):
        session = self.state.session
        sharers = (1, 2) if other_sharers else self.state.sharers
        return pb.Consistency(
            session_id=session.session_id, sharers_sha256=session.set_hash(sharers), survivors=sorted(survivors)
        ).SerializeToString()

    @precondition(lambda self: self.accepted)
    @rule(survivors=SETS, agreed=st.booleans(), signers=SETS)
    def unmask(self, survivors, agreed, signers):
        body = self.consistency_body(self.state.survivors if agreed else survivors)
        request = pb.UnmaskRequest(consistency=body)
        for signer in sorted(signers):
            key = private_key(self.cohort.names[signer - 1])
            request.endorsements.add(device=signer, signature=keys.sign(key, "consistency", body))
        reply = self.send("handle_unmask", request.SerializeToString())
        if reply is not None:
            assert len(signers) >= self.state.session.t
            self.reveals.append(pb.UnmaskReply.FromString(reply))

    @rule()
    def go_on(self):
        """The step that an honest server would take next, so that the later phases are reached often."""
        four = EVERYONE - {5}
        steps = {
            Phase.BUNDLED: lambda: self.roster(1, None, False),
            Phase.SHARED: lambda: self.shares(EVERYONE, None, 0),
            Phase.MASKED: lambda: self.consistency(four & set(self.state.sharers), False),
            Phase.AGREED: lambda: self.unmask(EVERYONE, True, set(self.state.survivors)),
        }
        steps.get(self.state.phase, lambda: None)()

    @rule(data=st.binary(max_size=60), handler=st.sampled_from(["handle_shares", "handle_consistency", "handle_unmask"]))
    def garbage(self, data, handler):
        arguments = (self.cohort.vectors[ME],) if handler == "handle_shares" else ()
        self.send(handler, data, *arguments)

    @precondition(lambda self: self.replies)
    @rule(seed=st.integers(0, 2**16))
    def replay(self, seed):
        handler, message = random.Random(seed).choice(list(self.replies))
        extra = {"handle_roster": (self.cohort.policy(n_min=N_MIN),), "handle_shares": (self.cohort.vectors[ME],)}
        self.send(handler, message, *extra.get(handler, ()))

    @invariant()
    def at_most_one_masked_vector_leaves_the_device(self):
        assert len(self.vectors) <= 1

    @invariant()
    def never_both_shares_of_one_peer(self):
        seeds = {share.dealer for reveal in self.reveals for share in reveal.seeds}
        others = {share.dealer for reveal in self.reveals for share in reveal.keys}
        assert not seeds & others

    @invariant()
    def the_device_never_goes_back(self):
        if self.state.phase is not self.phase:
            assert self.state.phase is Phase.COMPLAINED or ORDER.index(self.state.phase) == ORDER.index(self.phase) + 1
            self.phase = self.state.phase

    @invariant()
    def one_descriptor_uses_the_bundle_up_and_small_sets_are_refused(self):
        assert len(self.accepted) <= 1
        assert not self.state.sharers or len(self.state.sharers) >= N_MIN
        assert not self.state.survivors or len(self.state.survivors) >= N_MIN


def config_values(cohort) -> dict:
    return {name: getattr(cohort.config, name) for name in cohort.config.__dataclass_fields__}


TestHostileServer = HostileServer.TestCase
TestHostileServer.settings = settings(
    max_examples=-(-STEPS // STEPS_A_DEVICE), stateful_step_count=STEPS_A_DEVICE, deadline=None
)
