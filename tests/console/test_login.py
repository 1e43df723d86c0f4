"""Logging in to the console, over its real routes: cookies, roles, other sites' forms, guessing, and where it may lead."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from console_page import Page
from fastapi import FastAPI
from fastapi.testclient import TestClient
from openid_provider import CLIENT, SECRET, OpenIdProvider, serving

from aggregator.console import create_app
from aggregator.console.app import OPEN, ROUTERS
from aggregator.console.auth.accounts import Accounts, Passwords
from aggregator.console.auth.oidc import OidcLogin, Provider
from aggregator.console.auth.policy import AccessPolicy, Role
from aggregator.console.auth.rate_limit import ACCOUNT
from aggregator.console.auth.tokens import token_hash
from aggregator.settings import OidcSettings
from aggregator.store import Database

BROWSER = {"Accept": "text/html"}
ORIGIN = "https://console.example"
PASSWORD = "correct horse battery"
CLOSED = AccessPolicy(names=frozenset({"console.example"}), on_loopback=False, is_open=False, over_tls=True)
COOKIE = CLOSED.session_cookie


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(database: Database, clock: Clock) -> Accounts:
    made = Accounts(database, passwords=Passwords(PasswordHasher.from_parameters(CHEAPEST)), clock=clock)
    made.add("ada", Role.OPERATOR, PASSWORD)
    made.add("vera", Role.VIEWER, PASSWORD)
    return made


MakeApp = Callable[..., FastAPI]


@pytest.fixture
def make_app(database: Database, accounts: Accounts, clock: Clock) -> MakeApp:
    def make(policy: AccessPolicy = CLOSED, oidc: OidcLogin | None = None) -> FastAPI:
        passwords = Passwords(PasswordHasher.from_parameters(CHEAPEST))
        return create_app(database, policy=policy, oidc=oidc, passwords=passwords, clock=clock, ticks=clock)

    return make


@pytest.fixture
def browser(make_app: MakeApp) -> TestClient:
    return browser_of(make_app())


def browser_of(app: FastAPI, origin: str = ORIGIN) -> TestClient:
    return TestClient(app, base_url=origin, headers=BROWSER, follow_redirects=False, raise_server_exceptions=False)


def log_in(browser: TestClient, name: str = "ada", password: str = PASSWORD, target: str = "/") -> tuple[int, str]:
    """As a person does it: read the form, fill it in. The status, and where it leads or what it says."""
    form = Page(browser.get("/login", params={"next": target}).text).forms[-1]
    answer = browser.post(form[""], data={**form, "name": name, "password": password}, headers={"Origin": ORIGIN})
    return answer.status_code, answer.headers.get("location", answer.text)


def logged_in(browser: TestClient, name: str = "ada") -> str:
    """The cookie of a fresh login."""
    assert log_in(browser, name) == (303, "/")
    return str(browser.cookies[COOKIE])


# Nothing without a login.


def test_beyond_loopback_every_route_but_the_login_asks_for_one(make_app: MakeApp) -> None:
    browser = browser_of(make_app())
    open_paths = {route.path for router in OPEN for route in router.routes}  # type: ignore[attr-defined]
    assert open_paths == {"/login", "/logout", "/login/oidc", "/login/oidc/callback", "/static/{digest}/{name}"}
    asked = 0
    for router in ROUTERS:
        for route in router.routes:
            path = re.sub(r"\{[^}]*\}", "1", route.path)  # type: ignore[attr-defined]
            for method in route.methods if router not in OPEN else ():  # type: ignore[attr-defined]
                answer = browser.request(method, path, headers={"Accept": "*/*"})
                assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer", (method, path)
                assert "error" in answer.json() if method != "HEAD" else True
                asked += 1
    assert asked >= 6


def test_a_browser_is_led_to_the_login_and_back(browser: TestClient) -> None:
    answer = browser.get("/?page=2")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2F%3Fpage%3D2")
    assert log_in(browser, target="/?page=2") == (303, "/?page=2")
    assert "Log out" in browser.get("/").text
    for current, back in (
        (f"{ORIGIN}/rounds?a=1", "%2Frounds%3Fa%3D1"),
        ("https://evil.example//evil.example", "%2F"),
        ("", "%2F"),
    ):
        asked = {"HX-Request": "true", "HX-Current-URL": current}
        part = TestClient(browser.app, base_url=ORIGIN).get("/", headers=asked)
        assert (part.status_code, part.headers["HX-Redirect"]) == (401, f"/login?next={back}")


def test_on_loopback_who_is_there_may_look_and_nobody_may_act(make_app: MakeApp) -> None:
    here = browser_of(make_app(AccessPolicy()), "http://127.0.0.1:8350")
    assert here.get("/").status_code == here.get("/metrics").status_code == 200
    assert here.get("/api/v1/session").json() == {"name": None, "role": "viewer", "may_act": False, "csrf": None}
    assert "Log in" in here.get("/").text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_what_a_proxy_passes_on_is_not_from_here(make_app: MakeApp, header: str) -> None:
    here = browser_of(make_app(AccessPolicy()), "http://127.0.0.1:8350")
    assert here.get("/api/v1/rounds", headers={header: "192.0.2.1"}).status_code == 401


def test_another_name_is_refused_with_a_login_as_without(browser: TestClient) -> None:
    logged_in(browser)
    for host in ("127.0.0.1", "rebound.example", "console.example.evil"):
        assert browser.get("/api/v1/rounds", headers={"Host": host}).status_code == 400


# The cookie and its session.


def test_the_cookie_is_for_this_host_over_tls_and_not_for_scripts(browser: TestClient) -> None:
    form = Page(browser.get("/login").text).forms[-1]
    answer = browser.post("/login", data={**form, "name": "ada", "password": PASSWORD})
    session = next(line for line in answer.headers.get_list("set-cookie") if line.startswith(COOKIE))
    for part in ("__Host-", "HttpOnly", "Path=/", "SameSite=lax", "Secure", "Max-Age=86400"):
        assert part in session
    assert "Domain" not in session


def test_the_store_never_sees_a_cookie_a_token_or_a_password(
    browser: TestClient, accounts: Accounts, database: Database, clock: Clock
) -> None:
    cookie, token = logged_in(browser), accounts.new_api_token("ada")
    kept = repr(database.logins.accounts()) + repr(database.logins.session(token_hash(cookie)))
    assert token_hash(cookie) in kept and token_hash(token) in kept
    assert not any(secret in kept for secret in (cookie, token, PASSWORD))


def test_a_login_begins_a_new_session_whatever_cookie_was_there(browser: TestClient) -> None:
    planted = "planted-by-someone-else-0123456789"
    browser.cookies.set(COOKIE, planted, domain="console.example")
    form = Page(browser.get("/login").text).forms[-1]
    answer = browser.post("/login", data={**form, "name": "ada", "password": PASSWORD})
    given = next(line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{COOKIE}="))
    assert planted not in given
    thief = browser_of(browser.app, ORIGIN)  # type: ignore[arg-type]
    thief.cookies.set(COOKIE, planted, domain="console.example")
    assert thief.get("/").status_code == 303


def test_a_second_login_ends_the_first_session_of_that_browser(browser: TestClient) -> None:
    first = logged_in(browser)
    assert browser.get("/login").status_code == 303  # who is logged in needs no form
    other = browser_of(browser.app)  # type: ignore[arg-type]
    form = Page(other.get("/login").text).forms[-1]
    other.cookies.set(COOKIE, first, domain="console.example")
    assert other.post("/login", data={**form, "name": "vera", "password": PASSWORD}).status_code == 303
    stale = browser_of(browser.app)  # type: ignore[arg-type]
    stale.cookies.set(COOKIE, first, domain="console.example")
    assert stale.get("/").status_code == 303


def test_log_out_ends_the_session_for_everyone_who_has_its_cookie(browser: TestClient) -> None:
    cookie = logged_in(browser)
    form = next(form for form in Page(browser.get("/").text).forms if form[""] == "/logout")
    assert browser.post("/logout", data=form).status_code == 303
    browser.cookies.set(COOKIE, cookie, domain="console.example")
    assert browser.get("/").status_code == 303


def test_a_session_ends_when_it_is_left_alone_and_at_the_latest_after_a_day(browser: TestClient, clock: Clock) -> None:
    logged_in(browser)
    for _ in range(4):  # in use
        clock.now += CLOSED.session_idle_s - 120
        alive = browser.get("/").status_code
        if clock.now >= 1_800_000_000.0 + CLOSED.session_max_s:
            break
        assert alive == 200
    assert alive == 303
    browser.cookies.clear()
    clock.now += 1
    logged_in(browser)
    clock.now += CLOSED.session_idle_s
    assert browser.get("/").status_code == 303


def test_a_cookie_that_nobody_was_given_is_nobody(browser: TestClient, accounts: Accounts) -> None:
    for value in ("", "x", "A" * 43, token_hash(logged_in(browser))):
        stranger = browser_of(browser.app)  # type: ignore[arg-type]
        stranger.cookies.set(COOKIE, value, domain="console.example")
        assert stranger.get("/").status_code == 303


def test_logins_and_logouts_are_in_the_audit_and_failures_are_not(
    browser: TestClient, database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    log_in(browser, "ada\n", "wrong password")
    logged_in(browser)
    form = next(form for form in Page(browser.get("/").text).forms if form[""] == "/logout")
    browser.post("/logout", data=form)
    rows = database.audit.latest(10)[::-1]
    assert [(row.actor, row.role, row.action, row.at) for row in rows] == [
        ("ada", "operator", "login", clock.now),
        ("ada", "operator", "logout", clock.now),
    ]
    assert dict(rows[0].detail) == {"way": "password", "address": "testclient"}
    assert [record.getMessage() for record in caplog.records] == ["a login as 'ada' from testclient failed"]


# Accounts and roles.


def test_an_account_that_is_shut_out_is_so_at_once(browser: TestClient, accounts: Accounts) -> None:
    accounts.add("bob", Role.VIEWER, PASSWORD)
    logged_in(browser, "bob")
    token = accounts.new_api_token("bob")
    script = TestClient(browser.app, base_url=ORIGIN, headers={"Authorization": f"Bearer {token}"})
    assert script.get("/api/v1/rounds").status_code == 200
    accounts.disable("bob")
    assert browser.get("/").status_code == 303 and script.get("/api/v1/rounds").status_code == 401
    assert log_in(browser, "bob")[0] == 403 and accounts.log_in("bob", PASSWORD) is None
    accounts.set_password("bob", "another good password")
    assert log_in(browser, "bob", "another good password")[0] == 303


def test_a_session_that_began_while_its_account_was_shut_out_is_none(
    browser: TestClient, accounts: Accounts, database: Database, clock: Clock
) -> None:
    logged_in(browser, "vera")
    database.logins.change_account("vera", {"disabled": clock.now})  # as if the session had come just after
    assert browser.get("/").status_code == 303


def test_a_role_changes_at_the_next_request(browser: TestClient, accounts: Accounts) -> None:
    logged_in(browser, "vera")
    assert browser.get("/api/v1/session").json()["may_act"] is False
    accounts.set_role("vera", Role.OPERATOR)
    assert browser.get("/api/v1/session").json()["may_act"] is True


def test_a_page_that_is_open_and_left_alone_does_not_keep_its_login(browser: TestClient, clock: Clock) -> None:
    logged_in(browser)
    for _ in range(4):
        clock.now += CLOSED.session_idle_s / 4
        kept = browser.get("/fragments/at-hand").status_code
    assert kept != 200 and browser.get("/").status_code == 303
    logged_in(browser)
    for _ in range(4):
        clock.now += CLOSED.session_idle_s / 4
        kept = browser.get("/").status_code
    assert kept == 200


def test_a_new_password_ends_the_sessions(browser: TestClient, accounts: Accounts) -> None:
    logged_in(browser)
    accounts.set_password("ada", "another good password")
    assert browser.get("/").status_code == 303


def test_the_last_operator_stays(accounts: Accounts) -> None:
    for act in (lambda: accounts.disable("ada"), lambda: accounts.set_role("ada", Role.VIEWER)):
        with pytest.raises(Exception, match="last operator"):
            act()
    assert accounts.entries()[0] == {
        "account": "ada", "role": "operator", "login": "password", "created": 1_800_000_000.0, "disabled": None,
        "api_token": False,
    }  # fmt: skip
    accounts.set_role("vera", Role.OPERATOR)
    accounts.disable("ada")
    with pytest.raises(Exception, match="last operator"):
        accounts.disable("vera")


@pytest.mark.parametrize("name", ["", "Ada", "a b", "ada@example", "-ada", "a" * 65, "ada\n"])
def test_names_are_plain(accounts: Accounts, name: str) -> None:
    with pytest.raises(Exception, match="no account's name"):
        accounts.add(name, Role.VIEWER, PASSWORD)


# Guessing.


def test_a_wrong_name_and_a_wrong_password_are_answered_alike(browser: TestClient, accounts: Accounts) -> None:
    accounts.add("bob", Role.VIEWER, PASSWORD)
    accounts.disable("bob")
    said = [log_in(browser, *tried) for tried in (("ada", "wrong password"), ("nobody", PASSWORD), ("bob", PASSWORD))]
    shown = [(status, Page(text).text.strip()) for status, text in said]
    assert shown[0] == shown[1] == shown[2] and shown[0][0] == 403
    assert not browser.cookies.get(COOKIE)


def test_guessing_is_slowed_down_alike_for_names_that_there_are_and_are_not(browser: TestClient, clock: Clock) -> None:
    for name in ("ada", "nobody"):
        answers = [log_in(browser, name, "wrong password")[0] for _ in range(ACCOUNT.free + 2)]
        assert answers == [403] * ACCOUNT.free + [429] * 2
    assert log_in(browser, "ada")[0] == 429  # the right one has to wait as well
    clock.now += 1.0
    assert log_in(browser, "ada") == (303, "/")


def test_who_has_to_wait_is_told_how_long(browser: TestClient) -> None:
    for _ in range(ACCOUNT.free):
        log_in(browser, "ada", "wrong password")
    form = Page(browser.get("/login").text).forms[-1]
    answer = browser.post("/login", data={**form, "name": "ada", "password": PASSWORD})
    assert answer.headers["Retry-After"] == "2" and "Try again in 2 s" in answer.text


# Other sites.


def test_a_login_form_is_of_this_browser(browser: TestClient) -> None:
    form = Page(browser.get("/login").text).forms[-1]
    given = {**form, "name": "ada", "password": PASSWORD}
    other = browser_of(browser.app)  # type: ignore[arg-type]
    assert other.post("/login", data=given).status_code == 403  # no cookie of its own
    other.get("/login")
    assert other.post("/login", data=given).status_code == 403  # another browser's form
    assert browser.post("/login", data={**given, "csrf": ""}).status_code == 403
    assert browser.post("/login", data=given, headers={"Origin": "https://evil.example"}).status_code == 403
    assert browser.post("/login", data=given, headers={"Origin": "null"}).status_code == 403
    assert browser.post("/login", data=given, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert browser.post("/login", data=given, headers={"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_no_other_site_logs_anyone_out(browser: TestClient) -> None:
    logged_in(browser)
    for sent in ({}, {"csrf": "wrong"}):
        assert browser.post("/logout", data=sent).status_code == 403
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_a_login_never_leads_to_another_site(browser: TestClient, target: str) -> None:
    assert log_in(browser, target=target) == (303, "/")
    assert browser.get("/login", params={"next": target}).headers["location"] == "/"


# Scripts.


def test_a_script_asks_with_its_accounts_token(browser: TestClient, accounts: Accounts) -> None:
    first, token = accounts.new_api_token("vera"), accounts.new_api_token("vera")
    script = TestClient(browser.app, base_url=ORIGIN)
    ask = lambda given: script.get("/api/v1/session", headers={"Authorization": given})  # noqa: E731
    assert ask(f"Bearer {token}").json() == {"name": "vera", "role": "viewer", "may_act": False, "csrf": None}
    for wrong in (f"Bearer {first}", "Bearer ", "Bearer x", f"Basic {token}", token_hash(token)):
        assert ask(wrong).status_code == 401


def test_a_wrong_token_is_not_made_up_for_by_a_cookie(browser: TestClient) -> None:
    logged_in(browser)
    assert browser.get("/api/v1/rounds", headers={"Authorization": "Bearer x"}).status_code == 401


def test_figures_are_read_with_their_own_token_or_a_login(make_app: MakeApp, accounts: Accounts) -> None:
    secret = "a-token-for-prometheus"
    policy = AccessPolicy(names=CLOSED.names, on_loopback=False, is_open=False, metrics_hash=token_hash(secret))
    scraper = TestClient(make_app(policy), base_url="http://console.example")
    for path in ("/metrics", "/healthz"):
        assert scraper.get(path).status_code == 401
        assert scraper.get(path, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        assert scraper.get(path, headers={"Authorization": "Bearer other"}).status_code == 401
        token = accounts.new_api_token("vera")
        assert scraper.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert scraper.get("/api/v1/rounds", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


# OpenID Connect, through every route.


@pytest.fixture
def provider(clock: Clock) -> Iterator[OpenIdProvider]:
    with serving(clock) as running:
        yield running


@pytest.fixture
def single_sign_on(make_app: MakeApp, provider: OpenIdProvider, clock: Clock) -> TestClient:
    settings = OidcSettings(
        issuer=provider.issuer,
        client_id=CLIENT,
        operators=("fedge-operators",),
        viewers=("fedge-viewers",),
        label="the house",
    )
    oidc = OidcLogin(settings, provider=Provider(provider.issuer, clock=clock), secret=SECRET, clock=clock)
    return browser_of(make_app(oidc=oidc))


def through(browser: TestClient, provider: OpenIdProvider, target: str = "/") -> tuple[int, str]:
    left = browser.get("/login/oidc", params={"next": target})
    assert left.status_code == 303
    back = provider.authorize(left.headers["location"])
    assert back.startswith(f"{ORIGIN}/login/oidc/callback?")
    answer = browser.get(back)
    return answer.status_code, answer.headers.get("location", answer.text)


def test_single_sign_on_from_the_login_page_to_the_page_that_was_asked_for(
    single_sign_on: TestClient, provider: OpenIdProvider, database: Database
) -> None:
    assert "Log in with the house" in single_sign_on.get("/login").text
    assert through(single_sign_on, provider, "/?a=ü") == (303, "/?a=%C3%BC")
    host = urlsplit(provider.issuer).netloc
    assert single_sign_on.get("/api/v1/session").json()["name"] == f"ada@{host}"
    provider.claims = {**provider.claims, "roles": ["fedge-viewers"]}
    single_sign_on.cookies.clear()
    assert through(single_sign_on, provider)[0] == 303
    assert single_sign_on.get("/api/v1/session").json()["role"] == "viewer"
    assert [row.name for row in database.logins.accounts()] == ["ada", f"ada@{host}", "vera"]


def test_a_provider_cannot_make_someone_a_local_account_or_one_of_another_subject(
    single_sign_on: TestClient, provider: OpenIdProvider, accounts: Accounts
) -> None:
    through(single_sign_on, provider)
    single_sign_on.cookies.clear()
    provider.claims = {**provider.claims, "sub": "b-2"}  # another person who calls herself the same
    through(single_sign_on, provider)
    names = [entry["account"] for entry in accounts.entries() if entry["login"] == "OpenID Connect"]
    assert len(names) == 2 and "ada" not in names
    single_sign_on.cookies.clear()
    assert log_in(single_sign_on, str(names[0]), "")[0] == 403


def test_who_has_no_role_or_is_shut_out_stays_outside(
    single_sign_on: TestClient, provider: OpenIdProvider, accounts: Accounts
) -> None:
    provider.claims = {**provider.claims, "roles": ["staff"]}
    status, said = through(single_sign_on, provider)
    assert status == 403 and "no role" in said and len(accounts.entries()) == 2
    provider.claims = {**provider.claims, "roles": ["fedge-operators"]}
    assert through(single_sign_on, provider)[0] == 303
    accounts.disable(str(accounts.entries()[1]["account"]))
    assert single_sign_on.get("/").status_code == 303
    status, said = through(single_sign_on, provider)
    assert status == 403 and "off" in said


def test_a_login_that_began_elsewhere_or_was_tampered_with_ends_outside(
    single_sign_on: TestClient, provider: OpenIdProvider
) -> None:
    back = provider.authorize(single_sign_on.get("/login/oidc").headers["location"])
    victim = browser_of(single_sign_on.app)  # type: ignore[arg-type]
    assert victim.get(back).status_code == 403  # without a cookie
    victim.get("/login/oidc")
    assert victim.get(back).status_code == 403  # with one of another login
    provider.alter = lambda claims: {**claims, "nonce": "other"}
    assert single_sign_on.cookies.get(CLOSED.oidc_cookie)
    assert single_sign_on.get(back).status_code == 403
    assert not single_sign_on.cookies.get(CLOSED.oidc_cookie)
    assert not single_sign_on.cookies.get(COOKIE) and not victim.cookies.get(COOKIE)
    provider.alter = lambda claims: claims
    assert single_sign_on.get(back).status_code == 403  # the cookie of a login is for one use
    assert through(single_sign_on, provider, "//evil.example") == (303, "/")


def test_ways_back_from_the_provider_that_fail_are_slowed_down(
    single_sign_on: TestClient, provider: OpenIdProvider, clock: Clock
) -> None:
    for _ in range(3):
        for _ in range(ACCOUNT.free):
            assert single_sign_on.get("/login/oidc/callback?code=x&state=y").status_code == 403
        assert single_sign_on.get("/login/oidc/callback?code=x&state=y").status_code == 429
        clock.now += 1.0
        assert through(single_sign_on, provider)[0] == 303  # a right one is heard then, and what was is forgotten
        single_sign_on.cookies.clear()


def test_without_a_provider_there_is_no_way_to_one(browser: TestClient) -> None:
    assert browser.get("/login/oidc").status_code == browser.get("/login/oidc/callback").status_code == 404


def test_a_provider_that_is_away_is_one_line(single_sign_on: TestClient, provider: OpenIdProvider) -> None:
    provider.discovered = {"issuer": "https://elsewhere.example"}
    answer = single_sign_on.get("/login/oidc")
    assert answer.status_code == 502 and "calls itself" in answer.text
