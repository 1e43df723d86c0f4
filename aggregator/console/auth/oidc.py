"""Logging in with OpenID Connect: the authorization code flow with PKCE, a state and a nonce, and roles from a claim.

The values of one login are all made from one random cookie, so nothing is kept on the server, and a login that began in one
browser cannot be ended in another.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from joserfc.jwk import KeySet

from aggregator.console.auth.oidc_provider import Provider
from aggregator.console.auth.oidc_token import SignatureRefused, verified_claims
from aggregator.console.auth.roles import Role
from aggregator.console.auth.tokens import derived, same
from aggregator.settings import OidcSettings
from fedge.errors import VerificationError

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
