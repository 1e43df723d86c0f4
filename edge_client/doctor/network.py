"""Whether the door and central can be reached, and where it ends if not: name, port, TLS, certificate, proxy.

A handshake of our own (TLS 1.3, the device's certificate, HTTP/2) and the first byte of the answer; nothing is asked.
"""

import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed

from edge_client.doctor.finding import Finding, fail, ok, warn
from edge_client.doctor.folder import ENROL, validity_of
from edge_client.doctor.times import SET_IT, Validity
from edge_client.settings import DeviceHome, DeviceSettings

TIMEOUT_S = 8.0
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = {62, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""
_PROXY_NAMES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Reached:
    """What an attempt found, and when the server's certificate holds (as it says itself) where it was seen."""

    finding: Finding
    validities: list[Validity] = field(default_factory=list)


def proxies(environment: Mapping[str, str] = os.environ) -> Finding:
    """The variables that are set; a proxy's password is not shown."""
    shown = [f"{name}={_without_password(environment[name])}" for name in _PROXY_NAMES if environment.get(name)]
    return ok("proxies", ", ".join(shown) if shown else "none set")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where an attempt goes. ``name``: what the server's certificate must bear."""

    what: str
    host: str
    port: int
    name: str
    proxy: str | None
    timeout_s: float

    @property
    def shown(self) -> str:
        via = f" through the proxy {_without_password(self.proxy)}" if self.proxy else ""
        return f"{self.host}:{self.port}{via}"


def reach(what: str, address: str, home: DeviceHome, settings: DeviceSettings, *, timeout_s: float = TIMEOUT_S) -> Reached:
    """Try ``address`` ("host:port") as the agent would."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit():
        return Reached(fail(what, f"{address!r} is no host:port", "correct device.toml"))
    try:
        context = _context(home)
    except (OSError, ssl.SSLError) as error:
        return Reached(fail(what, f"the TLS files cannot be used: {error}", ENROL))
    name = settings.server_name or host
    target = _Target(what=what, host=host, port=int(port), name=name, proxy=proxy_for(address), timeout_s=timeout_s)
    try:
        with _connect(target) as plain, context.wrap_socket(plain, server_hostname=name) as wrapped:
            validity = validity_of(f"the certificate of {what}", wrapped.getpeercert(binary_form=True) or b"")
            return Reached(_greeting(target, wrapped), [validity])
    except ssl.SSLCertVerificationError as error:
        dated = error.verify_code in {_NOT_YET_VALID, _EXPIRED}
        return Reached(_untrusted(target, error), _unverified(target) if dated else [])
    except OSError as error:
        says, remedy = _explained(target, error)
        return Reached(fail(what, f"{target.shown}: {says}", remedy))


def proxy_for(address: str) -> str | None:
    """The proxy that the environment names for ``host:port``; loopback never takes one."""
    named = getproxies_environment()
    proxy = named.get("https") or named.get("all")
    host = address.rpartition(":")[0].strip("[]")
    if not proxy or _is_loopback(host) or proxy_bypass_environment(host, named):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    # Not fedge.wire's: that brings numpy, whose code may be what this processor cannot run.
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _context(home: DeviceHome) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(home.tls_authority)
    context.load_cert_chain(home.tls_certificate, home.tls_key)
    return context


def _connect(target: _Target) -> socket.socket:
    host, port = target.host, target.port
    if target.proxy is None:
        return socket.create_connection((host, port), target.timeout_s)
    parts = urlsplit(target.proxy)
    connection = socket.create_connection((parts.hostname or "", parts.port or 3128), target.timeout_s)
    try:
        there = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        connection.sendall(f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n\r\n".encode("ascii"))
        answer = b""
        # A byte at a time: what follows the empty line is TLS and not ours to take.
        while not answer.endswith(b"\r\n\r\n") and len(answer) < 4096 and (more := connection.recv(1)):
            answer += more
        status = answer.split(b"\r\n", 1)[0].decode("ascii", "replace")
        if status.split(" ")[1:2] != ["200"]:
            raise OSError(f"the proxy refused: {status[:80] or 'no answer'}")
    except BaseException:
        connection.close()
        raise
    return connection


def _greeting(target: _Target, wrapped: ssl.SSLSocket) -> Finding:
    """Under TLS 1.3 a server refuses a client's certificate only after the handshake: an HTTP/2 server's first frame shows
    that it took it.
    """
    what, where = target.what, target.shown
    try:
        first = wrapped.recv(1)
    except TimeoutError:
        return warn(what, f"{where}: TLS 1.3, but the server says nothing", "is it another service that listens there?")
    if not first:
        return fail(what, f"{where}: the server hung up after the handshake", f"is this device revoked? Else {ENROL}")
    return ok(what, f"{where}: TLS 1.3, certificates accepted by both sides")


def _untrusted(target: _Target, error: ssl.SSLCertVerificationError) -> Finding:
    what, where = target.what, target.shown
    if error.verify_code in {_NOT_YET_VALID, _EXPIRED}:
        when = "not valid yet" if error.verify_code == _NOT_YET_VALID else "expired"
        return fail(what, f"{where}: its certificate is {when} by this clock", f"if the clock is wrong, {SET_IT}")
    if error.verify_code in _OTHER_NAME:
        remedy = "set server_name in device.toml, or add the name to `names` in server.toml"
        return fail(what, f"{where}: its certificate is for another name than {target.name}", remedy)
    says = f"{where}: its certificate is not by this fleet's authority ({error.verify_message})"
    return fail(what, says, f"another server, or one set up anew? Then {ENROL}. Something in between? Then do not")


def _explained(target: _Target, error: OSError) -> tuple[str, str]:
    """What an attempt that failed says, and the remedy."""
    match error:
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}", _tls_remedy(error)
        case socket.gaierror():
            return f"the name cannot be resolved ({error.strerror})", "check the name, and this machine's DNS"
        case ConnectionRefusedError():
            return "nothing listens there", "is the server running, and the port right?"
        case TimeoutError():
            says = f"no answer within {target.timeout_s:.0f} s"
            return says, "is the network up? A firewall between may drop what it does not know"
        case _:
            return error.strerror or str(error), "is the network up?"


def _unverified(target: _Target) -> list[Validity]:
    """When the server's certificate says that it holds: a hint at what the clock should show, trusted for nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect(target) as plain, context.wrap_socket(plain) as wrapped:
            return [validity_of(f"the certificate of {target.what}", wrapped.getpeercert(binary_form=True) or b"")]
    except (OSError, ValueError):
        return []


def _tls_remedy(error: ssl.SSLError) -> str:
    if "ALERT" in (error.reason or "") and "PROTOCOL_VERSION" not in (error.reason or ""):
        return f"the server refuses this device's certificate: expired or revoked? Else {ENROL}"
    return "is it fedge that listens there? Its servers speak TLS 1.3 only"


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, separator, _ = head.partition("://")
    return f"{scheme}{separator}***@{tail}" if separator else f"***@{tail}"
