"""What an OpenID provider says of someone: an ID token, believed only as signed and as meant for this login here.

Signatures are joserfc's; the claims are compared here, one by one (OpenID Connect Core 1.0, section 3.1.3.7).
"""

import hmac
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from fedge.errors import VerificationError

# Public keys only: with "none" or a MAC, whoever knows the client id or a public key could sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
LEEWAY_S = 60.0
MAX_TOKEN_BYTES = 64 * 1024


class SignatureRefused(VerificationError):  # noqa: N818 - what became of a token
    """The token is not signed by one of the keys at hand; the provider may have newer ones."""


def verified_claims(token: str, keys: KeySet, *, issuer: str, client_id: str, nonce: str, now: float) -> Mapping[str, Any]:
    """The claims of ``token`` at ``now`` (UNIX seconds). Raises VerificationError that says which of them is wrong."""
    if len(token) > MAX_TOKEN_BYTES:
        raise VerificationError(f"the ID token has {len(token)} bytes, more than the {MAX_TOKEN_BYTES} allowed")
    try:
        claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise SignatureRefused(f"the ID token does not verify: {str(error)[:200]}") from None
    if claims.get("iss") != issuer:
        raise VerificationError("the ID token is of another issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences:
        raise VerificationError("the ID token is for another audience")
    if claims.get("azp", client_id) != client_id or (len(audiences) > 1 and "azp" not in claims):
        raise VerificationError("the ID token was issued to another party")
    expires, issued = (_time(claims, name) for name in ("exp", "iat"))
    if not issued - LEEWAY_S <= now < expires + LEEWAY_S:
        raise VerificationError("the ID token is expired or not yet valid: compare this machine's clock")
    if _time(claims, "nbf", issued) - LEEWAY_S > now:
        raise VerificationError("the ID token is not yet valid: compare this machine's clock")
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise VerificationError("the ID token belongs to another login (nonce)")
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise VerificationError("the ID token names no subject")
    return claims


def _time(claims: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise VerificationError(f"the ID token lacks {name}, or it is no time")
    return float(value)
