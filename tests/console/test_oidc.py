"""Login by an OpenID provider, against one that answers over HTTP: what is believed, and all that is not."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from openid_provider import CLIENT, SECRET, Claims, OpenIdProvider, serving

from aggregator.console.auth.oidc import (
    FAILURE_S,
    LOOK_AGAIN_S,
    Endpoints,
    Identity,
    OidcLogin,
    Provider,
    ProviderError,
    RoleRefused,
)
from aggregator.console.auth.policy import Role
from aggregator.console.auth.tokens import new_token
from aggregator.settings import OidcSettings
from fedge.errors import VerificationError

REDIRECT = "http://127.0.0.1:8350/login/oidc/callback"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(clock: Clock) -> Iterator[OpenIdProvider]:
    with serving(clock) as running:
        yield running


@pytest.fixture
def login(provider: OpenIdProvider, clock: Clock) -> OidcLogin:
    return login_of(provider, clock)


def login_of(provider: OpenIdProvider, clock: Clock, *, secret: str | None = SECRET, role_claim: str = "roles") -> OidcLogin:
    settings = OidcSettings(
        issuer=provider.issuer,
        client_id=CLIENT,
        role_claim=role_claim,
        operators=("fedge-operators",),
        viewers=("fedge-viewers",),
    )
    return OidcLogin(settings, provider=Provider(provider.issuer, clock=clock), secret=secret, clock=clock)


def come_back(login: OidcLogin, provider: OpenIdProvider, cookie: str) -> dict[str, str]:
    """Through the provider as a browser would; the query that it comes back with."""
    back = provider.authorize(login.authorization_url(cookie, REDIRECT))
    assert back.startswith(f"{REDIRECT}?")
    return dict(parse_qsl(urlsplit(back).query))


def identity(login: OidcLogin, provider: OpenIdProvider) -> Identity:
    cookie = new_token()
    return login.identity(cookie, REDIRECT, come_back(login, provider, cookie))


@pytest.mark.parametrize("signing", [0, 1], ids=["RS256", "ES256"])
def test_who_the_provider_vouches_for_is_let_in(login: OidcLogin, provider: OpenIdProvider, signing: int) -> None:
    provider.signing = signing
    assert identity(login, provider) == Identity(provider.issuer, "a-1", "ada", Role.OPERATOR)


def test_a_public_client_needs_no_secret(provider: OpenIdProvider, clock: Clock) -> None:
    provider.secret = None
    assert identity(login_of(provider, clock, secret=None), provider).name == "ada"


def test_a_wrong_client_secret_is_named(provider: OpenIdProvider, clock: Clock) -> None:
    with pytest.raises(ProviderError, match="401 invalid_client"):
        identity(login_of(provider, clock, secret="other"), provider)


@pytest.mark.parametrize(
    ("claim", "claims", "role"),
    [
        ("roles", {"roles": ["fedge-viewers", "staff"]}, Role.VIEWER),
        ("roles", {"roles": "fedge-operators"}, Role.OPERATOR),
        ("roles", {"roles": ["fedge-viewers", "fedge-operators"]}, Role.OPERATOR),
        ("realm_access.roles", {"realm_access": {"roles": ["fedge-viewers"]}}, Role.VIEWER),
        ("https://fedge.example/roles", {"https://fedge.example/roles": ["fedge-operators"]}, Role.OPERATOR),
        ("roles", {"roles": []}, None),
        ("roles", {"roles": {"fedge-operators": True}}, None),
        ("roles", {"roles": [["fedge-operators"], 1]}, None),
        ("realm_access.roles", {"realm_access": "fedge-operators"}, None),
    ],
)
def test_roles_come_from_the_claim_and_none_means_no_entry(
    provider: OpenIdProvider, clock: Clock, claim: str, claims: Claims, role: Role | None
) -> None:
    provider.claims = {"sub": "a-1", **claims}
    login = login_of(provider, clock, role_claim=claim)
    if role is None:
        with pytest.raises(RoleRefused, match="no role"):
            identity(login, provider)
    else:
        assert identity(login, provider).role is role


def without(name: str) -> dict[str, object]:
    return {name: None}


ALTERED = {
    "another issuer": ({"iss": "https://elsewhere.example"}, "issuer"),
    "no issuer": (without("iss"), "issuer"),
    "another audience": ({"aud": "another client"}, "audience"),
    "no audience": (without("aud"), "audience"),
    "several audiences and no party": ({"aud": [CLIENT, "other"]}, "another party"),
    "another party": ({"aud": [CLIENT, "other"], "azp": "other"}, "another party"),
    "another login's nonce": ({"nonce": "A" * 43}, "nonce"),
    "no nonce": (without("nonce"), "nonce"),
    "a nonce in a list": ({"nonce": ["x"]}, "nonce"),
    "expired": ({"iat": 1_799_999_000, "exp": 1_799_999_900}, "expired"),
    "issued in the future": ({"iat": 1_800_000_100}, "not yet valid"),
    "not yet valid": ({"nbf": 1_800_000_100}, "not yet valid"),
    "no end": (without("exp"), "exp"),
    "an end that is no time": ({"exp": "never"}, "exp"),
    "an end that is a truth": ({"exp": True}, "exp"),
    "no subject": (without("sub"), "subject"),
    "an empty subject": ({"sub": ""}, "subject"),
}


@pytest.mark.parametrize("case", ALTERED)
def test_a_token_that_is_meant_otherwise_is_refused(login: OidcLogin, provider: OpenIdProvider, case: str) -> None:
    change, said = ALTERED[case]
    provider.alter = lambda claims: {name: value for name, value in {**claims, **change}.items() if value is not None}
    with pytest.raises(VerificationError, match=said):
        identity(login, provider)


def test_several_audiences_with_this_party_are_taken(login: OidcLogin, provider: OpenIdProvider) -> None:
    provider.alter = lambda claims: {**claims, "aud": [CLIENT, "other"], "azp": CLIENT}
    assert identity(login, provider).subject == "a-1"


def altered_payload(token: str) -> str:
    head, payload, signature = token.split(".")
    return ".".join((head, payload[:-2] + ("AA" if payload[-2:] != "AA" else "BB"), signature))


def by_hand(header: Claims, claims: Claims, secret: bytes = b"") -> str:
    """A token as no library makes it: unsigned, or with a MAC under ``secret``."""
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    mac = hmac.digest(secret, b".".join(parts), "sha256") if secret else b""
    return b".".join([*parts, urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def test_a_token_that_is_not_the_providers_is_refused(login: OidcLogin, provider: OpenIdProvider) -> None:
    stranger = RSAKey.generate_key(2048, {"kid": "rsa-1"})
    public = provider.keys[0].as_pem(private=False)
    ways = {
        "altered": lambda claims: altered_payload(provider.signed(claims)),
        "without its signature": lambda claims: provider.signed(claims).rpartition(".")[0] + ".",
        "of a stranger under a known name": lambda claims: jwt.encode({"alg": "RS256", "kid": "rsa-1"}, claims, stranger),
        "unsigned": lambda claims: by_hand({"alg": "none", "kid": "rsa-1"}, claims),
        "under the public key as a secret": lambda claims: by_hand({"alg": "HS256", "kid": "rsa-1"}, claims, public),
        "no token at all": lambda _: "abc",
        "huge": lambda _: "a" * 70_000,
    }
    for case, sign in ways.items():
        provider.sign = sign
        with pytest.raises(VerificationError):
            identity(login, provider)
            pytest.fail(f"a token {case} was believed")


def test_an_answer_to_another_login_is_refused_before_the_provider_is_asked(
    login: OidcLogin, provider: OpenIdProvider
) -> None:
    mine, other = new_token(), new_token()
    answer = come_back(login, provider, mine)
    for wrong in (other, ""):
        with pytest.raises(VerificationError, match="state"):
            login.identity(wrong, REDIRECT, answer)
    with pytest.raises(VerificationError, match="state"):
        login.identity(mine, REDIRECT, {"code": answer["code"]})
    with pytest.raises(VerificationError, match="another provider"):
        login.identity(mine, REDIRECT, {**answer, "iss": "https://elsewhere.example"})
    with pytest.raises(VerificationError, match="did not log you in"):
        login.identity(mine, REDIRECT, {"state": answer["state"], "error": "access_denied"})
    assert login.identity(mine, REDIRECT, answer).subject == "a-1"  # the code was never used up


def test_a_code_is_good_once_and_only_with_its_verifier(login: OidcLogin, provider: OpenIdProvider) -> None:
    cookie, other = new_token(), new_token()
    answer = come_back(login, provider, cookie)
    stolen = {**come_back(login, provider, other), "code": answer["code"]}
    with pytest.raises(ProviderError, match="invalid_grant"):
        login.identity(other, REDIRECT, stolen)
    answer = come_back(login, provider, cookie)
    login.identity(cookie, REDIRECT, answer)
    with pytest.raises(ProviderError, match="invalid_grant"):
        login.identity(cookie, REDIRECT, answer)


def test_a_new_key_is_looked_up_but_not_at_anyones_bidding(login: OidcLogin, provider: OpenIdProvider, clock: Clock) -> None:
    identity(login, provider)
    provider.rotate()
    with pytest.raises(VerificationError):
        identity(login, provider)
    assert provider.key_fetches == 1
    clock.now += LOOK_AGAIN_S + 1
    assert identity(login, provider).subject == "a-1" and provider.key_fetches == 2


@pytest.mark.parametrize(
    "discovered",
    [
        {"issuer": "https://elsewhere.example"},
        {"token_endpoint": "http://elsewhere.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": None},
    ],
)
def test_a_description_that_leads_elsewhere_is_refused(
    login: OidcLogin, provider: OpenIdProvider, discovered: Claims
) -> None:
    provider.discovered = discovered
    with pytest.raises(ProviderError):
        login.authorization_url(new_token(), REDIRECT)


@pytest.mark.parametrize("issuer", ["http://login.example", "ftp://127.0.0.1", "login.example", ""])
def test_a_provider_must_speak_tls_unless_it_is_here(issuer: str, clock: Clock) -> None:
    with pytest.raises(ProviderError, match="not https"):
        Provider(issuer, clock=clock)


def test_a_provider_that_is_away_is_one_line_and_not_asked_again_at_once(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(clock) as gone:
        login = login_of(gone, clock)
    asked: list[int] = []
    discovered = Provider._discovered

    def counted(provider: Provider) -> Endpoints:
        asked.append(1)
        return discovered(provider)

    monkeypatch.setattr(Provider, "_discovered", counted)
    for _ in range(3):
        with pytest.raises(ProviderError, match="cannot be reached"):
            login.authorization_url(new_token(), REDIRECT)
    assert len(asked) == 1
    clock.now += FAILURE_S
    with pytest.raises(ProviderError, match="cannot be reached"):
        login.authorization_url(new_token(), REDIRECT)
    assert len(asked) == 2
