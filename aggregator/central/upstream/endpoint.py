"""Where upstream stands and the key for it, checked before anything is sent.

The rule: https anywhere; http only to `localhost` or to an address, written as a number, that is loopback or private; and
a key travels over http on loopback alone. Names are not looked up: a name says nothing about who else reads the line.
"""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from fedge.errors import InputError
from fedge.identity.files import read_secret_line


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``url``: of the chat completions. ``key``: never shown, in no form of this value."""

    url: str
    key: str | None = field(default=None, repr=False)
    is_plain: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """With every request."""
        return {} if self.key is None else {"authorization": f"Bearer {self.key}"}


def endpoint(base: str, key_file: Path | None) -> Endpoint:
    """The endpoint under an OpenAI client's base URL, such as http://127.0.0.1:8080/v1. Raises InputError."""
    is_plain, is_loopback = _checked(base)
    if key_file is not None and is_plain and not is_loopback:
        raise InputError(f"upstream.url is {base}: a key would be sent in the clear: use https, or no api_key_file")
    key = None if key_file is None else read_secret_line(key_file)
    return Endpoint(f"{base.rstrip('/')}/chat/completions", key, is_plain)


def _checked(base: str) -> tuple[bool, bool]:
    """Whether it is plain http, and whether it is on loopback. Raises InputError."""
    try:
        parts = urlsplit(base)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InputError("upstream.url cannot be read: give a base URL such as http://127.0.0.1:8080/v1") from None
    if parts.username is not None or parts.password is not None:
        raise InputError("upstream.url holds a user or a password: the key belongs into upstream.api_key_file")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not base.isprintable():
        raise InputError(f"upstream.url is {base!r}: give a base URL such as http://127.0.0.1:8080/v1, without a query")
    try:
        address = ip_address(host)
    except ValueError:
        is_loopback = is_near = host == "localhost"
    else:
        is_loopback = address.is_loopback
        is_near = is_loopback or (address.is_private and not address.is_link_local and not address.is_unspecified)
    if parts.scheme == "http" and not is_near:
        raise InputError(
            f"upstream.url is {base}: queries would be sent in the clear: use https; "
            "http is for localhost and for loopback or private addresses written as numbers"
        )
    return parts.scheme == "http", is_loopback
