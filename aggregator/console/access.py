"""Who may read the console. It has no login: it listens on loopback and answers to a loopback name only.

The name matters because a browser lends its place on this machine to any page: one whose own name is made to point at
127.0.0.1 (DNS rebinding) would else read everything here. Decides and sets headers; never reads the store.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

# Pages may load their own style sheet and nothing else; no one may frame, sniff, embed or keep what is answered.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether ``host`` is ``localhost`` or an address of the loopback interface. Looks no name up."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_addressed_here(host_header: str) -> bool:
    """Whether a request's Host header (name, with or without a port) names the loopback interface."""
    try:
        return is_loopback(urlsplit(f"//{host_header}").hostname or "")
    except ValueError:  # brackets that enclose no address
        return False
