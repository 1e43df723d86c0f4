"""The random values that stand for someone: cookies and tokens of 256 bits, stored as hashes, with a CSRF token from each.

Also where a login may lead afterwards: to a page of this console and nowhere else.
"""

import base64
import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

TOKEN_BYTES = 32


def new_token() -> str:
    """256 random bits as text for a cookie or a header."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> str:
    """What is stored of a token: whoever reads the database cannot use it. Its entropy needs no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def derived(token: str, purpose: str) -> str:
    """A value that only who knows ``token`` can make, one for each purpose; it tells nothing of ``token`` or the others."""
    mac = hmac.digest(token.encode("utf-8", "replace"), f"fedge console {purpose}".encode(), "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def csrf_token(token: str) -> str:
    """What a form of the holder of ``token`` must carry: other sites can send the cookie, but cannot read this."""
    return derived(token, "csrf")


def same(given: str, wanted: str) -> bool:
    """Whether two texts are equal, in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))


def path_within(target: str | None) -> str:
    """``target`` where it is a path on this console, else the first page.

    A browser reads ``//host``, ``/\\host`` and paths with control characters in them as other places.
    """
    if not target or not target.startswith("/") or target.startswith("//") or "\\" in target or not target.isprintable():
        return "/"
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else target
