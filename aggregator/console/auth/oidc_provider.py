"""An OpenID provider as its discovery document describes it: where to log in, its keys, and codes exchanged for ID tokens.

HTTPS only, but for a provider on this machine's loopback; no redirects; answers are bounded in size and time.
"""

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from aggregator.console.shell.hosts import is_loopback
from fedge.errors import FedgeError

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20
KEEP_S = 3600.0
# A token under an unknown key may be under a new one: look again, but not at anyone's bidding.
LOOK_AGAIN_S = 30.0
# While a provider is away, people who would log in do not each wait for it.
FAILURE_S = 10.0


class ProviderError(FedgeError):
    """The OpenID provider cannot be reached, or answers what it must not."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What of the discovery document is used."""

    authorization: str
    token: str
    keys: str
    secret_in_form: bool


class Provider:
    """One provider, its description and keys kept for an hour. ``clock``: seconds that only rise."""

    def __init__(self, issuer: str, *, clock: Callable[[], float]) -> None:
        self.issuer = _checked(issuer, issuer)
        self._clock = clock
        self._lock = threading.Lock()
        self._endpoints: tuple[float, Endpoints] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._failure: tuple[float, str] | None = None

    def endpoints(self) -> Endpoints:
        """Where the provider answers. Raises ProviderError."""
        with self._lock:
            if self._endpoints is None or self._clock() - self._endpoints[0] > KEEP_S:
                if self._failure is not None and self._clock() - self._failure[0] < FAILURE_S:
                    raise ProviderError(self._failure[1])
                try:
                    self._endpoints = (self._clock(), self._discovered())
                except ProviderError as error:
                    self._failure = (self._clock(), str(error))
                    raise
            return self._endpoints[1]

    def keys(self, *, renewed: bool = False) -> KeySet:
        """The keys that sign ID tokens; ``renewed``: asked for again, unless that was only just done."""
        endpoint = self.endpoints().keys
        with self._lock:
            age = None if self._keys is None else self._clock() - self._keys[0]
            if self._keys is None or age is None or age > (LOOK_AGAIN_S if renewed else KEEP_S):
                try:
                    self._keys = (self._clock(), KeySet.import_key_set(_fetched(endpoint)))  # type: ignore[arg-type]
                except (JoseError, KeyError, TypeError, ValueError) as error:
                    raise ProviderError(f"the OpenID provider's keys cannot be read: {str(error)[:200]}") from None
            return self._keys[1]

    def id_token(self, code: str, *, verifier: str, redirect: str, client_id: str, secret: str | None) -> str:
        """The ID token that the provider gives for ``code``. Raises ProviderError."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": verifier,
            "client_id": client_id,
        }
        headers = {}
        endpoints = self.endpoints()
        if secret is not None and endpoints.secret_in_form:
            form["client_secret"] = secret
        elif secret is not None:  # RFC 6749, section 2.3.1: both are form-encoded first
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        answer = _fetched(endpoints.token, form, headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderError("the OpenID provider's answer holds no ID token: ask for the scope openid")
        return token

    def _discovered(self) -> Endpoints:
        said = _fetched(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if said.get("issuer") != self.issuer:
            raise ProviderError(
                f"the OpenID provider calls itself {said.get('issuer')!r}, not {self.issuer!r} as in settings"
            )
        found = [said.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        authorization, token, keys = (_checked(url, self.issuer) for url in found)
        methods = said.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return Endpoints(authorization, token, keys, secret_in_form="client_secret_basic" not in methods)


def _checked(url: object, issuer: str) -> str:
    """``url`` where it may be asked: over TLS, or on loopback for a provider that is there, too. Raises ProviderError."""
    if isinstance(url, str):
        parts = urlsplit(url)
        local = all(is_loopback(urlsplit(one).hostname or "") for one in (url, issuer))
        if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and local)):
            return url
    raise ProviderError(f"the OpenID provider's address {url!r} is not https")


def _fetched(url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    body = None if form is None else urlencode(form).encode()
    asked = urllib.request.Request(url, body, {"Accept": "application/json", **(headers or {})})  # noqa: S310 - checked
    opener = urllib.request.build_opener(_NoRedirects)
    shown = urlsplit(url)._replace(query="").geturl()
    try:
        with opener.open(asked, timeout=TIMEOUT_S) as answer:
            content = answer.read(MAX_ANSWER_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise ProviderError(f"the OpenID provider refuses {shown}: {error.code} {_reason(error)}") from None
    except OSError as error:
        raise ProviderError(f"the OpenID provider cannot be reached at {shown}: {error}") from None
    if len(content) > MAX_ANSWER_BYTES:
        raise ProviderError(f"the OpenID provider's answer at {shown} is longer than {MAX_ANSWER_BYTES} bytes")
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ProviderError(f"the OpenID provider's answer at {shown} is no JSON object")
    return said


def _reason(error: urllib.error.HTTPError) -> str:
    """The provider's error code (RFC 6749, section 5.2), if it gives one that is plain."""
    try:
        code = json.loads(error.read(MAX_ANSWER_BYTES))["error"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        return ""
    return code if isinstance(code, str) and code.isidentifier() else ""
