"""A receiver shows that a dealer dealt badly, by opening the one ciphertext that it complains about.

Only a ciphertext that the dealer signed is ever opened, so the server cannot talk devices into opening the shares of honest
dealers: those open correctly and give no ground to complain.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedge.secagg import keys
from fedge.secagg.errors import MessageError
from fedge.secagg.session import Session
from fedge.secagg.sharing import check_inbound, decrypt, held_share
from fedge.secagg.wire import check_size, parse
from protos.fedge.secagg.v1 import secagg_pb2 as pb


def sign_complaint(
    session: Session, complainer: int, dealer: int, shown: pb.InboundShare, *, key: bytes, identity_key: Ed25519PrivateKey
) -> bytes:
    """The serialized MaskedReply that complains about ``shown``."""
    body = pb.Complaint(
        session_id=session.session_id, complainer=complainer, dealer=dealer, shown=shown, key=key
    ).SerializeToString()
    signed = pb.Signed(body=body, signature=keys.sign(identity_key, "complaint", body))
    return pb.MaskedReply(complaint=signed).SerializeToString()


def judge_complaint(session: Session, complainer: int, signed: pb.Signed) -> tuple[int, bool]:
    """``(dealer, proven)``. Raises MessageError for a complaint that is malformed or plainly false.

    It is proven where the signed ciphertext opens under the key shown to something that the dealer did not commit to: no
    second key opens an honest ciphertext. Where it does not open, either may lie: the key shown cannot be checked.
    """
    keys.verify(session.member(complainer).identity_key, "complaint", signed.body, signed.signature)
    complaint = parse(pb.Complaint, signed.body)
    if complaint.session_id != session.session_id or complaint.complainer != complainer:
        raise MessageError("the complaint belongs to another session or device")
    dealer = complaint.dealer
    if dealer == complainer:
        raise MessageError("a device cannot complain about itself")
    check_inbound(session, complainer, dealer, complaint.shown)
    check_size("the key shown", complaint.key, keys.KEY_BYTES)
    plaintext = decrypt(session, complainer, dealer, complaint.shown.share, complaint.key)
    if plaintext is None:
        return dealer, False
    if held_share(session, complainer, dealer, complaint.shown.share, plaintext) is not None:
        raise MessageError(f"the complaint about position {dealer} is false: the share is good")
    return dealer, True
