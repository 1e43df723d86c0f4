"""Names in a request's Host header, and which of them are this machine's own. Looks no name up."""

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
