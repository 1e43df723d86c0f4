"""From settings to a console that may listen: who it answers, under which names, over TLS or not.

The rule: nothing without a login beyond loopback, and no login over a line that others can read.
"""

import time
from collections.abc import Callable
from pathlib import Path

from aggregator.console.auth.oidc import OidcLogin, Provider
from aggregator.console.auth.policy import AccessPolicy, is_loopback, named_host
from aggregator.console.auth.tokens import token_hash
from aggregator.http_serving import TlsFiles
from aggregator.settings import ConsoleSettings
from fedge.errors import InputError

MIN_TOKEN_CHARACTERS = 20


def access_policy(settings: ConsoleSettings, *, has_operator: bool) -> AccessPolicy:
    """What the settings ask for. ``has_operator``: whether an account could log in. Raises InputError for what is unsafe."""
    local = is_loopback(settings.host)
    names = frozenset(name.lower() for name in settings.names)
    for name in names:
        if not name or named_host(f"[{name}]" if ":" in name else name) != name:
            raise InputError(f"console.names holds {name!r}: give names or addresses, without a scheme or a port")
    tls = tls_files(settings)
    if not local:
        if tls is None:
            raise InputError(
                f"console.host is {settings.host}: beyond loopback the console needs console.tls_certificate and tls_key"
            )
        if not names:
            raise InputError(
                f"console.host is {settings.host}: list in console.names the names by which browsers will reach the console"
            )
    beyond = not local or any(not is_loopback(name) for name in names)
    if beyond and not has_operator and not has_oidc(settings):
        raise InputError(
            "the console would be reachable beyond loopback, and nobody could log in: "
            "fedge server accounts add NAME --role operator, or set console.oidc"
        )
    return AccessPolicy(
        names=names,
        on_loopback=local,
        is_open=not beyond and not settings.login_on_loopback,
        over_tls=beyond or tls is not None,
        metrics_hash=None if settings.metrics_token_file is None else token_hash(_secret(settings.metrics_token_file)),
        session_idle_s=settings.session_idle_s,
        session_max_s=settings.session_max_s,
    )


def tls_files(settings: ConsoleSettings) -> TlsFiles | None:
    """Certificate and key, which fit together, or None. Raises InputError."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InputError("console.tls_certificate and console.tls_key belong together: set both or none")
    files = TlsFiles(certificate, key)
    try:
        files.load()
    except InputError as error:
        raise InputError(f"console.tls_certificate and console.tls_key: {error}") from None
    return files


def has_oidc(settings: ConsoleSettings) -> bool:
    """Whether an OpenID provider is configured."""
    return settings.oidc.issuer is not None


def oidc_login(settings: ConsoleSettings, *, clock: Callable[[], float] = time.time) -> OidcLogin | None:
    """The login by the configured provider, which is not asked before someone logs in. Raises InputError, ProviderError."""
    oidc = settings.oidc
    if oidc.issuer is None:
        return None
    if not oidc.client_id:
        raise InputError("console.oidc.issuer is set, and console.oidc.client_id is not")
    if "openid" not in oidc.scopes:
        raise InputError(f"console.oidc.scopes is {list(oidc.scopes)}: openid must be among them")
    if not oidc.operators and not oidc.viewers:
        raise InputError("console.oidc gives nobody a role: set console.oidc.operators or console.oidc.viewers")
    secret = None if oidc.client_secret_file is None else _secret(oidc.client_secret_file, least=1)
    return OidcLogin(oidc, provider=Provider(oidc.issuer, clock=time.monotonic), secret=secret, clock=clock)


def _secret(path: Path, *, least: int = MIN_TOKEN_CHARACTERS) -> str:
    """The one line in a file. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if len(text) < least or len(text.splitlines()) != 1:
        raise InputError(f"{path} must hold one line with a secret of at least {least} characters")
    return text
