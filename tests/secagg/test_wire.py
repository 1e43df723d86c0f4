import hashlib

import numpy as np
import pytest
from secagg_cohort import config_of, raises

from fedge.secagg import MessageError, SecAggError, StageError, wire
from fedge.secagg.errors import blaming
from protos.fedge.secagg.v1 import secagg_pb2 as pb


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        (pb.SignedBundle, 8_192),
        (pb.Bundle, 8_192),
        (pb.PlainBundle, 8_192),
        (pb.Roster, 2_097_152),
        (pb.Descriptor, 65_536),
        (pb.ShareReply, 131_072),
        (pb.Dealing, 16_384),
        (pb.ShareDelivery, 2_097_152),
        (pb.MaskedReply, 65_536),
        (pb.MaskedVector, 1_024),
        (pb.Complaint, 16_384),
        (pb.ConsistencyRequest, 2_048),
        (pb.Consistency, 2_048),
        (pb.ConsistencyReply, 4_096),
        (pb.UnmaskRequest, 32_768),
        (pb.UnmaskReply, 32_768),
        (pb.PlainStep, 2_048),
        (pb.Signed, 4_096),
        (pb.Record, 2_048),
    ],
)
def test_a_message_beyond_its_limit_is_refused_by_its_length_alone(kind, limit):
    assert set(wire.LIMITS) >= {kind}
    with raises(MessageError, f"{kind.__name__}: {limit + 1} bytes, more than the limit of {limit}"):
        wire.parse(kind, bytes(limit + 1))
    with raises(MessageError, f"{kind.__name__}: the {limit} bytes are not such a message"):
        wire.parse(kind, bytes(limit))
    assert wire.parse(kind, b"") == kind()


def test_every_kind_of_message_has_a_limit():
    assert len(wire.LIMITS) == 19


def test_a_cohort_of_128_fits_its_messages():
    ids, digest = ["x" * 128] * 128, bytes(32)
    dealing = pb.Dealing(session_id=digest, dealer=128, receivers=[digest] * 128)
    signed = pb.Signed(body=dealing.SerializeToString(), signature=bytes(64))
    share = pb.DealtShare(seed_commitment=digest, key_commitment=digest, ciphertext=bytes(146))
    inbound = pb.InboundShare(dealing=signed, share=share)
    revealed = pb.RevealedShare(dealer=128, share=bytes(33), salt=digest)
    consistency = pb.Consistency(session_id=digest, sharers_sha256=digest, survivors=range(1, 129)).SerializeToString()
    endorsement = pb.Endorsement(device=128, signature=bytes(64))
    for message in (
        pb.Descriptor(run=ids[0], roster=[pb.RosterEntry(device_id=name, bundle_sha256=digest) for name in ids]),
        pb.Roster(descriptor=bytes(40_000), bundles=[bytes(8_192)] * 128),
        pb.ShareReply(dealing=signed, shares=[share] * 128),
        pb.ShareDelivery(session_id=digest, sharers=range(1, 129), inbound=[inbound] * 127),
        dealing,
        pb.Complaint(session_id=digest, complainer=128, dealer=127, shown=inbound, key=digest),
        pb.ConsistencyRequest(consistency=consistency),
        pb.UnmaskRequest(consistency=consistency, endorsements=[endorsement] * 128),
        pb.UnmaskReply(session_id=digest, device=128, seeds=[revealed] * 128),
        pb.PlainStep(session_id=digest, step="consistency", members=range(1, 129)),
    ):
        assert wire.parse(type(message), message.SerializeToString()) == message


@pytest.mark.parametrize("positions", [(), (1,), (5,), (1, 5), (1, 2, 3, 4, 5)])
def test_positions_are_an_ascending_set(positions):
    assert wire.check_positions("U1", list(positions), 5) == positions


@pytest.mark.parametrize("positions", [(0,), (6,), (1, 1), (2, 1), (0, 1), (5, 6)])
def test_other_positions_are_refused(positions):
    with raises(MessageError, f"U1 is not an ascending set of positions in 1..5: {positions}"):
        wire.check_positions("U1", positions, 5)


@pytest.mark.parametrize("name", ["x", "x" * 128, "é" * 64])
def test_names_of_up_to_128_bytes_are_fine(name):
    assert wire.check_id("it", name) == name


@pytest.mark.parametrize(("name", "size"), [("", 0), ("x" * 129, 129), ("é" * 65, 130)])
def test_other_names_are_refused(name, size):
    with raises(MessageError, f"it has {size} bytes, expected 1 to 128"):
        wire.check_id("it", name)


def test_sizes_are_exact():
    assert wire.check_size("it", b"12", 2) == b"12"
    for value in (b"1", b"123"):
        with raises(MessageError, f"it has {len(value)} bytes, expected 2"):
            wire.check_size("it", value, 2)


@pytest.mark.parametrize(("bits", "raw"), [(16, b"\1\0\2\0\3\0"), (32, b"\1\0\0\0\2\0\0\0\3\0\0\0")])
def test_vectors_are_little_endian(bits, raw):
    config = config_of(2, bits=bits, reals=2, integers=0)
    vector = wire.vector_from(raw, config)
    assert vector.tolist() == [1, 2, 3] and vector.dtype == np.dtype(f"<u{bits // 8}")
    assert wire.vector_hash(vector) == hashlib.blake2b(raw, digest_size=32).digest()
    assert wire.vector_hash(np.repeat(vector, 2)[::2]) == wire.vector_hash(vector)
    assert wire.vector_from(np.repeat(vector, 2)[::2], config).flags.c_contiguous


def test_sha256_is_of_all_parts_together():
    assert wire.sha256(b"ab", b"c") == hashlib.sha256(b"abc").digest()


def test_blame_goes_to_the_device_unless_another_is_blamed_already():
    for kind in (MessageError, StageError):
        with raises(kind, "it", blames="a"), blaming("a"):
            raise kind("it")
        with raises(kind, "it", blames="b"), blaming("a"):
            raise kind("it", device_id="b")
    with raises(SecAggError, "it"), blaming("a"):
        raise SecAggError("it")
