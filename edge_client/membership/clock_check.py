"""Tells a wrong clock from a server that is away: TLS and certificates fail in obscure ways where a device's clock is wrong.

Two signs, both authenticated: the server's own time in its answers, and, where no connection comes about at all, the
validity of a server certificate that an authority of ours has signed.
"""

import socket
import ssl
from datetime import UTC, datetime

from cryptography import x509

from fedge.identity.tls import is_issued_by

TOLERATED_S = 120.0
_PROBE_TIMEOUT_S = 5.0


def clock_warning(*, device_s: float, server_s: float) -> str | None:
    """One line where the device's clock is further from the server's than certificates tolerate, else None."""
    behind_s = server_s - device_s
    if abs(behind_s) <= TOLERATED_S:
        return None
    way = "behind" if behind_s > 0 else "ahead"
    return (
        f"this device's clock is {_span(abs(behind_s))} {way}: it says {_moment(device_s)}, the server {_moment(server_s)}"
    )


def explain_refused_connection(address: str, authorities: bytes, *, now: float) -> str | None:
    """One line where connections to ``address`` fail for the device's clock or a foreign server. Sends nothing."""
    certificate = _served(address)
    if certificate is None:
        return None
    try:
        known = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        return None
    if not any(is_issued_by(certificate, authority) for authority in known):
        return f"the server at {address} is not the expected one: an unknown authority signed its certificate"
    start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if start <= now <= end:
        return None
    return (
        f"this device's clock says {_moment(now)}, but the server's certificate is valid from {_moment(start)} "
        f"to {_moment(end)}: set the clock (timedatectl), or renew the server's certificate if the clock is right"
    )


def _served(address: str) -> x509.Certificate | None:
    """The certificate that is shown at ``address``, whoever signed it and whenever it is valid."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    # Nothing is sent over this connection and nothing believed that it says: only its certificate's signature is looked at.
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_TIMEOUT_S) as plain,
            context.wrap_socket(plain) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
        return None if der is None else x509.load_der_x509_certificate(der)
    except (OSError, ValueError):
        return None


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _span(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    return f"{seconds / 3600:.1f} hours" if seconds >= 2 * 3600 else f"{seconds / 60:.0f} minutes"
