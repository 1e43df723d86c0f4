"""A small OpenID provider on loopback, as strict as a real one: discovery, keys, codes for one use, PKCE, client secrets."""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

Claims = dict[str, Any]
CLIENT, SECRET = "fedge console", "s3cret & more: 100%"


class OpenIdProvider:
    """What it says can be changed: ``claims`` of who logs in, ``alter`` of a token's claims, ``sign`` of the token."""

    def __init__(self, issuer: str, clock: Callable[[], float]) -> None:
        self.issuer = issuer
        self.clock = clock
        self.keys = [self._key("rsa-1"), ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig", "alg": "ES256"})]
        self.signing = 0
        self.claims: Claims = {"sub": "a-1", "preferred_username": "ada", "roles": ["fedge-operators"]}
        self.alter: Callable[[Claims], Claims] = lambda claims: claims
        self.sign: Callable[[Claims], str] = self.signed
        self.discovered: Claims = {}
        self.secret: str | None = SECRET
        self.key_fetches = 0
        self._codes: dict[str, dict[str, str]] = {}

    @staticmethod
    def _key(kid: str) -> RSAKey:
        return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})

    def rotate(self) -> None:
        """A new key signs from now on, and is the only one that is published."""
        self.keys, self.signing = [self._key("rsa-2")], 0

    def signed(self, claims: Claims) -> str:
        """Under the key that signs now."""
        key = self.keys[self.signing]
        return jwt.encode({"alg": str(key.get("alg")), "kid": key.kid}, claims, key)

    def authorize(self, url: str) -> str:
        """What a browser's visit to ``url`` leads to, once its user has agreed: the redirect with a code."""
        asked = dict(parse_qsl(urlsplit(url).query, strict_parsing=True))
        assert url.startswith(f"{self.issuer}/authorize?") and asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT and "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256" and len(asked["code_challenge"]) == 43
        assert min(len(asked["state"]), len(asked["nonce"])) >= 43
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.issuer})}"

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, Claims]:
        """The token endpoint."""
        if self.secret is not None:
            pair = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
            given = (unquote_plus(pair[0]), unquote_plus(pair[-1]))
            if given != (CLIENT, self.secret):
                return 401, {"error": "invalid_client"}
        asked = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        fits = asked is not None and asked["code_challenge"] == challenge and asked["redirect_uri"] == form["redirect_uri"]
        if asked is None or not fits or form["client_id"] != CLIENT:
            return 400, {"error": "invalid_grant"}
        now = int(self.clock())
        fresh = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.claims}
        return 200, {"id_token": self.sign(self.alter(fresh)), "access_token": "unused", "token_type": "Bearer"}

    def answer(self, method: str, path: str, body: bytes, authorization: str) -> tuple[int, Claims]:
        """Any request."""
        if path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            said = {"issuer": self.issuer, **{name: f"{self.issuer}{end}" for name, end in ends.items()}}
            return 200, {**said, **self.discovered}
        if path == "/keys":
            self.key_fetches += 1
            return 200, dict(KeySet(list(self.keys)).as_dict(private=False))
        if (method, path) == ("POST", "/token"):
            form = {name: values[-1] for name, values in parse_qs(body.decode()).items()}
            return self.exchange(form, authorization)
        return 404, {"error": "not_found"}


@contextmanager
def serving(clock: Callable[[], float]) -> Iterator[OpenIdProvider]:
    """A provider that answers at its issuer's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, said = provider.answer(method, self.path, body, self.headers.get("Authorization", ""))
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider = OpenIdProvider(f"http://127.0.0.1:{server.server_address[1]}", clock)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
