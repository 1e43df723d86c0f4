"""Steps 2 and 3: a dealer splits its two secrets among the cohort, and each receiver checks what it got.

The dealer signs one list of hashes, one for each receiver, each over that receiver's commitments and ciphertext. So a
receiver can show a bad share to others, and neither the server nor the receiver can make up a share that an honest dealer
did not deal.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedge.secagg import keys, shamir
from fedge.secagg.bundle import OwnSecrets
from fedge.secagg.errors import MessageError
from fedge.secagg.masks import key_stream
from fedge.secagg.session import Session
from fedge.secagg.wire import check_size, parse, sha256
from protos.fedge.secagg.v1 import secagg_pb2 as pb

SALT_BYTES = 32
_PLAINTEXT_BYTES = 2 * (shamir.SHARE_BYTES + SALT_BYTES)
SEED, KEY = "seed", "key"


@dataclass(frozen=True, slots=True, repr=False)
class HeldShare:
    """What a device holds of one dealer's secrets. It reveals at most one of the two shares."""

    dealer: int
    seed_share: bytes
    seed_salt: bytes
    key_share: bytes
    key_salt: bytes


def commitment(session: Session, *, dealer: int, receiver: int, kind: str, share: bytes, salt: bytes) -> bytes:
    """H(session, dealer, receiver, kind, share, salt): hides the share behind the salt until it is revealed."""
    positions = dealer.to_bytes(4, "big") + receiver.to_bytes(4, "big")
    return sha256(keys.prefixed(b"fedge/sa/2/commitment", session.session_id, positions, kind.encode(), share, salt))


def entry(share: pb.DealtShare) -> bytes:
    """The hash by which a Dealing names what one receiver gets."""
    return sha256(keys.prefixed(b"fedge/sa/2/dealt", share.seed_commitment, share.key_commitment, share.ciphertext))


def commitments_of(session: Session, held: HeldShare, receiver: int) -> tuple[bytes, bytes]:
    """Commitments to the seed share and to the key share that ``receiver`` holds."""
    seed = commitment(session, dealer=held.dealer, receiver=receiver, kind=SEED, share=held.seed_share, salt=held.seed_salt)
    key = commitment(session, dealer=held.dealer, receiver=receiver, kind=KEY, share=held.key_share, salt=held.key_salt)
    return seed, key


def deal(
    session: Session, dealer: int, secrets: OwnSecrets, identity_key: Ed25519PrivateKey
) -> tuple[pb.ShareReply, HeldShare]:
    """Shares for every member of the roster, and the one that the dealer keeps.

    All randomness comes from the dealing seed under this session's id: the same session gives the same shares, another
    session others.
    """
    n, t = session.n, session.t
    size = shamir.COEFFICIENT_BYTES * (t - 1)
    dealing_key = keys.derive(secrets.dealing_seed, session_id=session.session_id, label=keys.prefixed(b"deal"))
    randomness = key_stream(dealing_key, 2 * size + 2 * SALT_BYTES * n)
    seeds = shamir.split(secrets.seed, t=t, n=n, randomness=randomness[:size])
    mask_keys = shamir.split(secrets.mask_key, t=t, n=n, randomness=randomness[size : 2 * size])
    salts = [randomness[at : at + SALT_BYTES] for at in range(2 * size, len(randomness), SALT_BYTES)]
    own, channel = session.member(dealer), keys.private_key_of(secrets.channel_key)
    dealt, kept = [], None
    for receiver, peer in enumerate(session.members, start=1):
        held = HeldShare(dealer, seeds[receiver - 1], salts[receiver - 1], mask_keys[receiver - 1], salts[n + receiver - 1])
        seed_commitment, key_commitment = commitments_of(session, held, receiver)
        share = pb.DealtShare(seed_commitment=seed_commitment, key_commitment=key_commitment)
        if receiver == dealer:
            kept = held
        else:
            ends = {"session_id": session.session_id, "sender": own.device_id, "receiver": peer.device_id}
            key = keys.channel_key(keys.agree(channel, peer.channel_key), **ends)  # type: ignore[arg-type]
            plaintext = held.seed_share + held.seed_salt + held.key_share + held.key_salt
            share.ciphertext = keys.seal(key, plaintext, **ends)  # type: ignore[arg-type]
        dealt.append(share)
    assert kept is not None
    body = pb.Dealing(
        session_id=session.session_id, dealer=dealer, receivers=[entry(share) for share in dealt]
    ).SerializeToString()
    signed = pb.Signed(body=body, signature=keys.sign(identity_key, "shares", body))
    return pb.ShareReply(dealing=signed, shares=dealt), kept


def check_dealing(session: Session, dealer: int, signed: pb.Signed) -> pb.Dealing:
    """The Dealing that ``dealer`` signed for this session. Raises MessageError where it is another's or malformed."""
    keys.verify(session.member(dealer).identity_key, "shares", signed.body, signed.signature)
    dealing = parse(pb.Dealing, signed.body)
    if dealing.session_id != session.session_id or dealing.dealer != dealer:
        raise MessageError("the dealing belongs to another session or dealer")
    if len(dealing.receivers) != session.n:
        raise MessageError(f"the dealing names {len(dealing.receivers)} receivers, expected {session.n}")
    return dealing


def check_entry(dealing: pb.Dealing, receiver: int, share: pb.DealtShare) -> None:
    """Raises MessageError unless ``share`` is what the dealer signed for ``receiver``."""
    if entry(share) != dealing.receivers[receiver - 1]:
        raise MessageError(f"the share for position {receiver} is not the one that was signed")


def check_inbound(session: Session, receiver: int, dealer: int, inbound: pb.InboundShare) -> None:
    """Raises MessageError unless ``dealer`` signed exactly this for ``receiver``: else it is not the dealer's word."""
    check_entry(check_dealing(session, dealer, inbound.dealing), receiver, inbound.share)


def check_share_reply(session: Session, dealer: int, reply: pb.ShareReply) -> None:
    """The server's check of a whole dealing. Raises MessageError."""
    dealing = check_dealing(session, dealer, reply.dealing)
    if len(reply.shares) != session.n:
        raise MessageError(f"{len(reply.shares)} shares came, expected {session.n}")
    for receiver, share in enumerate(reply.shares, start=1):
        check_entry(dealing, receiver, share)
        check_size("a commitment to a seed share", share.seed_commitment, 32)
        check_size("a commitment to a key share", share.key_commitment, 32)
        check_size("a ciphertext", share.ciphertext, 0 if receiver == dealer else _PLAINTEXT_BYTES + 16)


def inbound_key(session: Session, receiver: int, dealer: int, channel: X25519PrivateKey) -> bytes:
    """The key of the one ciphertext from ``dealer`` to ``receiver``, from the receiver's side."""
    sender, own = session.member(dealer), session.member(receiver)
    agreed = keys.agree(channel, sender.channel_key)
    return keys.channel_key(agreed, session_id=session.session_id, sender=sender.device_id, receiver=own.device_id)


def decrypt(session: Session, receiver: int, dealer: int, share: pb.DealtShare, key: bytes) -> bytes | None:
    """The plaintext of a dealt share under ``key``, or None where it does not open."""
    return keys.unseal(
        key,
        share.ciphertext,
        session_id=session.session_id,
        sender=session.member(dealer).device_id,
        receiver=session.member(receiver).device_id,
    )


def held_share(session: Session, receiver: int, dealer: int, share: pb.DealtShare, plaintext: bytes) -> HeldShare | None:
    """The two shares in a plaintext, or None where they are not the ones that the dealer committed to."""
    if len(plaintext) != _PLAINTEXT_BYTES:
        return None
    size = shamir.SHARE_BYTES
    first, second = plaintext[: size + SALT_BYTES], plaintext[size + SALT_BYTES :]
    held = HeldShare(dealer, first[:size], first[size:], second[:size], second[size:])
    if commitments_of(session, held, receiver) != (share.seed_commitment, share.key_commitment):
        return None
    return held
