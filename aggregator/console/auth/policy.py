"""Which names a console answers to, and what it shows without a login: worked out once, from where it listens.

Names in a request's Host header, and which of them are this machine's own. Looks no name up.

What an account may do.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether ``host`` is ``localhost`` or an address of the loopback interface."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def named_host(host_header: str) -> str:
    """The name or address in a Host header (with or without a port), in small letters; empty where there is none."""
    try:
        return (urlsplit(f"//{host_header}").hostname or "").lower()
    except ValueError:  # brackets that enclose no address
        return ""


class Role(StrEnum):
    """``VIEWER`` sees everything, ``OPERATOR`` acts, too."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The default is that of a console on loopback: who is on this machine may look; to act takes an operator's login.

    ``names``: beyond those of loopback, in small letters. ``is_open``: viewing needs no login. ``over_tls``: browsers reach
    it over TLS, here or at a proxy, so cookies are not sent otherwise. ``metrics_hash``: of the figures' bearer token.
    """

    names: frozenset[str] = frozenset()
    on_loopback: bool = True
    is_open: bool = True
    over_tls: bool = False
    metrics_hash: str | None = None
    session_idle_s: float = 8 * 3600.0
    session_max_s: float = 24 * 3600.0

    def answers_to(self, host: str) -> bool:
        """Whether ``host``, from a request's Host header, is a name of this console."""
        return host in self.names or (self.on_loopback and is_loopback(host))

    @property
    def session_cookie(self) -> str:
        """Its name; with the prefix ``__Host-`` a browser takes it over TLS, from this very host, only."""
        return self._prefixed("fedge_session")

    @property
    def visit_cookie(self) -> str:
        """Of a browser that is about to log in."""
        return self._prefixed("fedge_visit")

    @property
    def oidc_cookie(self) -> str:
        """Of a login that is under way at an OpenID provider."""
        return self._prefixed("fedge_oidc")

    def _prefixed(self, name: str) -> str:
        return f"__Host-{name}" if self.over_tls else name
