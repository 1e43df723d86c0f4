"""Logging in with OpenID Connect: the authorization code flow with PKCE, a state and a nonce, and roles from a claim.

The values of one login are all made from one random cookie, so nothing is kept on the server, and a login that began in one
browser cannot be ended in another.

An OpenID provider as its discovery document describes it: where to log in, its keys, and codes exchanged for ID tokens.

HTTPS only, but for a provider on this machine's loopback; no redirects; answers are bounded in size and time.

What an OpenID provider says of someone: an ID token, believed only as signed and as meant for this login here.

Signatures are joserfc's; the claims are compared here, one by one (OpenID Connect Core 1.0, section 3.1.3.7).
"""

import base64
import hashlib
import hmac
import json
import threading
import urllib.error
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from aggregator.console.auth.policy import Role, is_loopback
from aggregator.console.auth.tokens import derived, same
from aggregator.settings import OidcSettings
from fedge.errors import FedgeError, VerificationError

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


MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """Someone whom the provider vouched for."""

    issuer: str
    subject: str
    name: str
    role: Role


class RoleRefused(VerificationError):  # noqa: N818 - what became of a login
    """The provider knows them, but no role here is theirs."""


class OidcLogin:
    """The provider of this console's settings. ``clock``: UNIX seconds."""

    def __init__(
        self, settings: OidcSettings, *, provider: Provider, secret: str | None, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._secret = secret
        self._clock = clock
        self.label = settings.label

    def authorization_url(self, cookie: str, redirect: str) -> str:
        """Where a browser that holds ``cookie`` goes to log in. Raises ProviderError."""
        verifier = derived(cookie, "verifier")
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect,
            "scope": " ".join(self._settings.scopes),
            "state": derived(cookie, "state"),
            "nonce": derived(cookie, "nonce"),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = self._provider.endpoints().authorization
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    def identity(self, cookie: str, redirect: str, answer: Mapping[str, str]) -> Identity:
        """Who came back with ``answer``, the redirect's query. Raises VerificationError, ProviderError, RoleRefused."""
        if not same(answer.get("state", ""), derived(cookie, "state")):
            raise VerificationError("this answer belongs to another login (state): log in again")
        if answer.get("iss", self._provider.issuer) != self._provider.issuer:  # RFC 9207
            raise VerificationError("this answer is of another provider")
        if "error" in answer or not answer.get("code"):
            raise VerificationError("the OpenID provider did not log you in")
        token = self._provider.id_token(
            answer["code"],
            verifier=derived(cookie, "verifier"),
            redirect=redirect,
            client_id=self._settings.client_id,
            secret=self._secret,
        )
        try:
            claims = self._claims(token, cookie, self._provider.keys())
        except SignatureRefused:
            claims = self._claims(token, cookie, self._provider.keys(renewed=True))
        name = claims.get(self._settings.name_claim)
        shown = name if isinstance(name, str) and name.strip() and name.isprintable() else claims["sub"]
        return Identity(self._provider.issuer, claims["sub"], shown[:MAX_NAME], self._role(claims))

    def _claims(self, token: str, cookie: str, keys: KeySet) -> Mapping[str, Any]:
        return verified_claims(
            token,
            keys,
            issuer=self._provider.issuer,
            client_id=self._settings.client_id,
            nonce=derived(cookie, "nonce"),
            now=self._clock(),
        )

    def _role(self, claims: Mapping[str, Any]) -> Role:
        said = set(_values(claims, self._settings.role_claim))
        if said & set(self._settings.operators):
            return Role.OPERATOR
        if said & set(self._settings.viewers):
            return Role.VIEWER
        raise RoleRefused(f"the claim {self._settings.role_claim} gives you no role on this console")


def _values(claims: Mapping[str, Any], path: str) -> Iterator[str]:
    """The texts at a claim, which dots may lead into (``realm_access.roles``), unless a claim is named just so."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    yield from (value for value in (found if isinstance(found, list) else [found]) if isinstance(value, str))
