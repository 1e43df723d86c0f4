"""Where the console may listen: nothing is open beyond loopback, and no login goes over a line that others can read."""

from pathlib import Path

import pytest
from console_certificate import write_certificate

from aggregator.console.auth.policy import AccessPolicy
from aggregator.console.config import access_policy, oidc_login, tls_files
from aggregator.http_serving import TlsFiles
from aggregator.settings import ConsoleSettings, OidcSettings
from fedge.errors import FedgeError, InputError


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Path]:
    return write_certificate(tmp_path)


def test_on_loopback_who_is_there_may_look() -> None:
    policy = access_policy(ConsoleSettings(), has_operator=False)
    assert policy == AccessPolicy() and policy.is_open and not policy.over_tls
    assert policy.answers_to("127.0.0.1") and policy.answers_to("localhost") and not policy.answers_to("console.example")


def test_loopback_may_ask_for_a_login_too() -> None:
    assert not access_policy(ConsoleSettings(login_on_loopback=True), has_operator=False).is_open


def test_beyond_loopback_everything_needs_a_login_over_tls(tls: dict[str, Path]) -> None:
    settings = ConsoleSettings(host="0.0.0.0", names=("Console.example",), **tls)
    policy = access_policy(settings, has_operator=True)
    assert not policy.is_open and policy.over_tls and policy.session_cookie.startswith("__Host-")
    assert policy.answers_to("console.example") and not policy.answers_to("127.0.0.1")
    with_oidc = settings.model_copy(update={"oidc": OidcSettings(issuer="https://login.example", client_id="c")})
    assert not access_policy(with_oidc, has_operator=False).is_open


def test_beyond_loopback_each_missing_part_is_one_line(tls: dict[str, Path]) -> None:
    whole = {"host": "0.0.0.0", "names": ("console.example",), **tls}
    for missing, said in (("tls_certificate", "belong together"), ("names", "console.names")):
        with pytest.raises(InputError, match=said):
            access_policy(
                ConsoleSettings(**{key: value for key, value in whole.items() if key != missing}), has_operator=True
            )
    with pytest.raises(InputError, match=r"0\.0\.0\.0: beyond loopback the console needs console\.tls_certificate"):
        access_policy(ConsoleSettings(host="0.0.0.0", names=("console.example",)), has_operator=True)
    with pytest.raises(InputError, match="accounts add NAME --role operator"):
        access_policy(ConsoleSettings(**whole), has_operator=False)


def test_behind_a_proxy_a_name_asks_for_a_login_and_for_cookies_over_tls() -> None:
    settings = ConsoleSettings(names=("console.example",))
    policy = access_policy(settings, has_operator=True)
    assert not policy.is_open and policy.over_tls and policy.answers_to("console.example") and policy.answers_to("127.0.0.1")
    with pytest.raises(InputError, match="nobody could log in"):
        access_policy(settings, has_operator=False)


@pytest.mark.parametrize("name", ["https://console.example", "console.example:8350", "", "a/b"])
def test_a_name_is_a_name_alone(name: str) -> None:
    with pytest.raises(InputError, match=r"console\.names"):
        access_policy(ConsoleSettings(names=(name,)), has_operator=True)


def test_a_certificate_that_cannot_be_used_is_named(tls: dict[str, Path], tmp_path: Path) -> None:
    assert tls_files(ConsoleSettings(**tls)) == TlsFiles(tls["tls_certificate"], tls["tls_key"])
    (tmp_path / "other").mkdir()
    other = write_certificate(tmp_path / "other")
    for wrong in ({"tls_key": other["tls_key"]}, {"tls_key": tmp_path / "none"}, {"tls_certificate": tls["tls_key"]}):
        with pytest.raises(InputError, match=r"console\.tls_certificate"):
            tls_files(ConsoleSettings(**{**tls, **wrong}))


def test_the_figures_token_is_one_long_line(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef0123\n")
    assert access_policy(ConsoleSettings(metrics_token_file=file), has_operator=False).metrics_hash
    for text in ("", "short", "0123456789abcdef0123\nmore"):
        file.write_text(text)
        with pytest.raises(InputError, match="one line"):
            access_policy(ConsoleSettings(metrics_token_file=file), has_operator=False)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"client_id": ""}, "client_id"),
        ({"scopes": ("profile",)}, "openid"),
        ({"operators": ()}, "nobody a role"),
        ({"issuer": "http://login.example"}, "not https"),
        ({"client_secret_file": Path("/nonexistent/secret")}, "cannot be read"),
    ],
)
def test_an_openid_provider_that_could_not_work_is_refused_at_the_start(wrong: dict[str, object], said: str) -> None:
    right = {"issuer": "https://login.example", "client_id": "console", "operators": ("ops",)}
    assert oidc_login(ConsoleSettings(oidc=OidcSettings(**right))) is not None  # type: ignore[arg-type]
    assert oidc_login(ConsoleSettings()) is None
    with pytest.raises(FedgeError, match=said):
        oidc_login(ConsoleSettings(oidc=OidcSettings(**{**right, **wrong})))  # type: ignore[arg-type]
