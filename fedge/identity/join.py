"""The one string that a person carries from the server to a new device: where to knock, whom to expect there, and a token.

The key in it is the TLS authority's public key itself, so the first contact already knows whom it talks to. The token in it
is a secret for as long as it lives: whoever shows it first becomes a member.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec

from fedge.errors import InputError, VerificationError
from fedge.identity.tls import key_bytes, key_from_bytes

TOKEN_BYTES = 32
_SYNTAX = re.compile(
    r"fedge1://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})"
    r"/([A-Za-z0-9._-]{1,64})/([A-Za-z0-9_-]{44})/([A-Za-z0-9_-]{43})"
)


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a join string says."""

    address: str
    """host:port of the door for those who join."""
    ca_name: str
    """The enrolment authority's name, for which a request is made."""
    authority_key: ec.EllipticCurvePublicKey
    """The TLS authority behind the server's certificate."""
    token: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the authority's key, for people to compare."""
        return sha256(key_bytes(self.authority_key)).hexdigest()

    def to_text(self) -> str:
        """``fedge1://HOST:PORT/NAME/KEY/TOKEN``."""
        return f"fedge1://{self.address}/{self.ca_name}/{_encode(key_bytes(self.authority_key))}/{_encode(self.token)}"

    @staticmethod
    def from_text(text: str) -> "Invitation":
        """Reads what ``to_text`` wrote. Raises InputError, which never repeats the token."""
        match = _SYNTAX.fullmatch(text.strip())
        if match is None or not 0 < int(match[2]) < 65536:
            raise InputError(
                "this is no join string: copy all of the line fedge1://HOST:PORT/... that `fedge devices token` prints"
            )
        try:
            key = key_from_bytes(_decode(match[4]))
            token = _decode(match[5])
        except VerificationError:
            raise InputError("the join string is damaged: copy the whole line once more") from None
        return Invitation(f"{match[1]}:{match[2]}", match[3], key, token)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise VerificationError("not base64") from None
    if _encode(data) != text:
        raise VerificationError("not canonical base64")
    return data
