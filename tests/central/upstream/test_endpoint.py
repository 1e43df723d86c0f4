"""Where queries and the key may go."""

from pathlib import Path

import pytest

from aggregator.central.upstream.client import Endpoint, endpoint
from fedge.errors import InputError

SECRET = "sk-secret"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "base",
    [
        "https://api.example.com/v1",
        "http://localhost:8080/v1/",
        "http://127.0.0.1:8080/v1",
        "http://[::1]:8080/v1",
        "http://10.1.2.3:8000/v1",
        "http://192.168.0.7/v1",
        "http://[fd00::7]:8000/v1",
    ],
)
def test_https_goes_anywhere_and_http_to_loopback_and_private_addresses(base: str) -> None:
    assert endpoint(base, None).url == base.rstrip("/") + "/chat/completions"


@pytest.mark.parametrize(
    "base",
    [
        "http://api.example.com/v1",
        "http://8.8.8.8/v1",
        "http://169.254.169.254/v1",
        "http://0.0.0.0/v1",
        "http://localhost.example.com/v1",
        "http://llm:8000/v1",
        "ftp://127.0.0.1/v1",
        "127.0.0.1:8080",
        "https:///v1",
        "https://api.example.com/v1?key=1",
        "http://127.0.0.1:notaport/v1",
        "https://api.example.com/\nv1",
    ],
)
def test_anything_else_is_refused_in_one_line(base: str) -> None:
    with pytest.raises(InputError, match=r"upstream\.url") as caught:
        endpoint(base, None)
    assert "\n" not in str(caught.value)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="api_key_file") as caught:
        endpoint(f"https://user:{SECRET}@api.example.com/v1", None)
    assert SECRET not in str(caught.value)


def test_a_key_travels_over_tls_or_loopback_only(key_file: Path) -> None:
    for base in ("https://api.example.com/v1", "http://127.0.0.1:1/v1", "http://localhost/v1"):
        assert endpoint(base, key_file).headers == {"authorization": f"Bearer {SECRET}"}
    with pytest.raises(InputError, match="in the clear"):
        endpoint("http://10.1.2.3:8000/v1", key_file)


def test_the_key_is_in_no_printed_form_of_the_endpoint() -> None:
    assert SECRET not in repr(Endpoint("https://api.example.com", SECRET))


def test_a_key_file_that_others_may_read_is_refused(key_file: Path) -> None:
    key_file.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        endpoint("https://api.example.com/v1", key_file)


@pytest.mark.parametrize("held", ["", "\n", "two words", "one\ntwo", "schlüssel", "a\x00b"])
def test_a_key_file_holds_one_line_of_printable_ascii(key_file: Path, held: str) -> None:
    key_file.write_text(held)
    with pytest.raises(InputError, match="must hold one line") as caught:
        endpoint("https://api.example.com/v1", key_file)
    assert not held.strip() or held not in str(caught.value)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        endpoint("https://api.example.com/v1", tmp_path / "nowhere")
