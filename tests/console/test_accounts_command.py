"""`fedge server accounts` and the console that `fedge server run` starts: what they say, keep, serve over TLS and refuse."""

import getpass
import json
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_certificate import write_certificate
from typer.testing import CliRunner, Result

from aggregator.console.auth.accounts import Accounts
from aggregator.settings import ServerHome
from aggregator.store import Database
from cli.console_account import NAME, ensure_operator
from cli.main import app
from fedge.errors import InputError
from fedge.settings_text import with_values

PASSWORD = "correct horse battery"


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    made = ServerHome(tmp_path / "server")
    made.folder.mkdir(mode=0o700)
    made.settings_file.write_text("console_port = 0\n")
    return made


@pytest.fixture
def accounts(home: ServerHome) -> Iterator[Accounts]:
    with Database.open(home.database_url) as database:
        yield Accounts(database)


def fedge(home: ServerHome, *arguments: str, stdin: str = "") -> Result:
    command = ["server", "accounts", *arguments, "--home", str(home.folder)]
    return CliRunner().invoke(app, command, input=stdin)


def test_an_account_is_made_listed_changed_and_shut_out(home: ServerHome, accounts: Accounts) -> None:
    made = fedge(home, "add", "ada", "--role", "operator", stdin=f"{PASSWORD}\r\n")
    assert (made.exit_code, made.stdout) == (0, "ada may log in as operator.\n")
    assert accounts.log_in("ada", PASSWORD) is not None
    assert fedge(home, "add", "vera", "--json", stdin=f"{PASSWORD}\n").stdout == '{"account": "vera", "role": "viewer"}\n'
    assert fedge(home, "role", "vera", "operator").exit_code == 0
    assert fedge(home, "password", "ada", stdin="another good password\n").exit_code == 0
    assert accounts.log_in("ada", PASSWORD) is None and accounts.log_in("ada", "another good password") is not None
    assert fedge(home, "disable", "ada").stdout == "ada is shut out.\n"
    listed = json.loads(fedge(home, "list", "--json").stdout)
    assert [(entry["account"], entry["role"], entry["disabled"] is None) for entry in listed] == [
        ("ada", "operator", False),
        ("vera", "operator", True),
    ]
    table = fedge(home, "list").stdout
    assert "off" in table and "vera" in table and "argon2" not in table


def test_a_token_is_shown_once_and_works(home: ServerHome, accounts: Accounts) -> None:
    fedge(home, "add", "ada", "--role", "operator", stdin=f"{PASSWORD}\n")
    token = fedge(home, "token", "ada").stdout.strip()
    found = accounts.of_api_token(token)
    assert found is not None and found.name == "ada"
    assert token not in fedge(home, "list", "--json").stdout


def test_changes_are_in_the_audit_in_the_name_of_the_machines_user(home: ServerHome, accounts: Accounts) -> None:
    fedge(home, "add", "ada", "--role", "operator", stdin=f"{PASSWORD}\n")
    fedge(home, "token", "ada")
    fedge(home, "disable", "ada")  # refused: the last operator
    with Database.open(home.database_url) as database:
        rows = database.audit.latest(10)[::-1]
    assert [(row.action, row.target, dict(row.detail)) for row in rows] == [
        ("account.add", "ada", {"role": "operator"}),
        ("account.token", "ada", {}),
    ]
    assert {row.actor for row in rows} == {f"{getpass.getuser()}, on the server"}


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("add", "Ada"), PASSWORD, "no account's name"),
        (("add", "bob"), "short", "12 to 256 characters"),
        (("add", "ada"), PASSWORD, "an account ada already"),
        (("disable", "ada"), "", "last operator"),
        (("role", "ada", "viewer"), "", "last operator"),
        (("password", "bob"), PASSWORD, "no account bob; there are ada"),
        (("token", "bob"), "", "no account bob"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    home: ServerHome, accounts: Accounts, arguments: tuple[str, ...], stdin: str, said: str
) -> None:
    fedge(home, "add", "ada", "--role", "operator", stdin=f"{PASSWORD}\n")
    before = accounts.entries()
    result = fedge(home, *arguments, stdin=stdin)
    assert isinstance(result.exception, InputError) and said in str(result.exception)
    assert accounts.entries() == before


def test_a_password_is_never_an_argument(home: ServerHome) -> None:
    assert fedge(home, "add", "ada", PASSWORD).exit_code == 2
    assert fedge(home, "add", "ada", "--password", PASSWORD).exit_code == 2


def test_a_first_start_makes_one_operator_with_a_password_that_its_owner_alone_reads(
    home: ServerHome, accounts: Accounts
) -> None:
    file = ensure_operator(home)
    assert file is not None and file.stat().st_mode & 0o777 == 0o600
    password = file.read_text().strip()
    assert len(password) >= 20 and accounts.log_in(NAME, password) is not None
    assert ensure_operator(home) == file and file.read_text().strip() == password
    assert len(accounts.entries()) == 1
    file.unlink()
    assert ensure_operator(home) is None and len(accounts.entries()) == 1


def test_no_account_is_made_where_a_provider_logs_people_in(home: ServerHome, accounts: Accounts) -> None:
    home.settings_file.write_text('[console.oidc]\nissuer = "https://login.example"\nclient_id = "c"\n')
    assert ensure_operator(home) is None and accounts.entries() == []


def start_console(home: ServerHome) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cli.main", "server", "run", "console", "--home", str(home.folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_beyond_loopback_the_console_speaks_tls_and_answers_who_is_known(home: ServerHome, accounts: Accounts) -> None:
    tls = write_certificate(home.folder)
    values = {"console.names": ["console.example"], **{f"console.{name}": str(path) for name, path in tls.items()}}
    home.settings_file.write_text(with_values(home.settings_file.read_text(), values))
    process = start_console(home)
    assert "accounts add NAME --role operator" in process.communicate(timeout=120)[1] and process.returncode == 1

    fedge(home, "add", "ada", "--role", "operator", stdin=f"{PASSWORD}\n")
    token = fedge(home, "token", "ada").stdout.strip()
    process = start_console(home)
    try:
        assert process.stdout is not None
        port = re.search(r"https://console\.example:(\d+)/", process.stdout.readline())
        assert port is not None
        trusting = ssl.create_default_context(cafile=str(tls["tls_certificate"]))
        trusting.check_hostname = False  # it is dialled by its address here, as no resolver knows its name
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))

        def ask(**headers: str) -> tuple[int, str, str]:
            request = urllib.request.Request(f"https://127.0.0.1:{port[1]}/api/v1/session", headers=headers)
            try:
                answer = opener.open(request, timeout=60)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                return answer.status, answer.read().decode(), answer.headers["Strict-Transport-Security"] or ""

        assert ask(Host="console.example")[::2] == (401, "max-age=31536000")
        assert ask(Host="elsewhere.example")[0] == 400
        status, said, _ = ask(Host="console.example", Authorization=f"Bearer {token}")
        assert status == 200 and json.loads(said)["name"] == "ada"
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
