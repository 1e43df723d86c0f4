"""A real server's folder with a device and two releases, a run with something on every page, and a console that listens."""

import importlib.util
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import uvicorn
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.admin import Operator
from aggregator.console import create_app
from aggregator.console.auth.accounts import Accounts, Passwords
from aggregator.console.auth.policy import Role
from aggregator.fleet.authority import Authority
from aggregator.fleet.heartbeat import Report
from aggregator.fleet.keys import AggregatorKeys
from aggregator.fleet.published import publish
from aggregator.releases.publication import tuf_repository
from aggregator.releases.registry import ReleaseRegistry
from aggregator.settings import ServerHome
from aggregator.store import AttemptRow, Database, DropoutRow, RoundRow
from fedge.costs import Kind, LedgerEntry, Payer
from fedge.identity.wish import make_wish
from fedge.presence import Presence
from fedge.release import sign_release

PASSWORD = "correct horse battery"
_spec = importlib.util.spec_from_file_location("edge_parts", Path(__file__).parents[1] / "edge_client" / "conftest.py")
assert _spec is not None and _spec.loader is not None
_parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_parts)
release_key, make_release = _parts.release_key, _parts.make_release


def server_home(folder: Path) -> ServerHome:
    """A server's folder as `fedge server init` leaves it, without a release."""
    made = ServerHome(folder)
    made.folder.mkdir(mode=0o700)
    made.settings_file.write_text('federation = "test"\n')
    keys, now = AggregatorKeys.open(made.keys), time.time()
    Authority.found(
        made.authority,
        name="test",
        release_key=keys.release.public_key(),
        round_key=keys.round.public_key(),
        now=now - 86_400,
    )
    publish(Authority(made.authority), made, ("localhost",), now=now)
    return made


def device_and_releases(home: ServerHome, make_release: Any) -> list[str]:
    """A device that joined, and two releases, the second of them active. Gives the releases' ids."""
    authority, now = Authority(home.authority), time.time()
    keys = {
        "identity_key": Ed25519PrivateKey.generate(),
        "tls_key": ec.generate_private_key(ec.SECP256R1()),
        "node_key": ec.generate_private_key(ec.SECP384R1()),
    }
    token = authority.new_token(now=now)
    authority.join(token, make_wish(authority.trust().ca_name, "device-1", **keys), now=now)
    key = AggregatorKeys.open(home.keys).release
    registry, tuf = ReleaseRegistry(home.registry, key.public_key()), tuf_repository(home, home.settings())
    tuf.create()
    ids = []
    for version in (1, 2):
        made = make_release(scale=float(version), version=version)
        ids.append(registry.publish(sign_release(made.manifest, made.files, key), at=now))
        registry.promote(ids[-1], at=now, reason=f"round {version}")
    tuf.publish(registry)
    return ids


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    """A server's folder."""
    return server_home(tmp_path / "server")


@pytest.fixture
def fleet(home: ServerHome, make_release: Any) -> list[str]:
    """A device that joined, and two releases, the second of them active. Gives the releases' ids."""
    return device_and_releases(home, make_release)


def record_run(database: Database, *, rounds: int = 14) -> None:
    """Rounds with sessions, dropouts, refusals, usage and costs, and events."""
    for number in range(1, rounds + 1):
        at = 1_700_000_000.0 + 60 * number
        database.save_round(
            RoundRow(
                round=number,
                state="finished" if number % 5 else "failed",
                attempts=1,
                cohort=16,
                survivors=15,
                started=at,
                finished=at + 40,
                seconds={"check_in": 20.0, "share_keys": 2.0, "masked_input": 9.5, "unmask": 2.5, "publish": 6.0},
                release="ab" * 32,
                metrics={
                    "certificate": "certified",
                    "certified_risk": 0.08,
                    "fallback_rate": 0.3 - number / 100,
                    "refusals": {"MessageError": number % 2 + 1},
                    "usage": {"queries": 1000, "local": 700 + 10 * number, "probes": 20},
                    "notes": ["device-7 was slow"],
                },
            )
        )
        session: dict[str, Any] = {"round": number, "attempt": 1, "purpose": "update"}
        outcome = "finished" if number % 5 else "aborted"
        database.add_attempt(AttemptRow(**session, outcome=outcome, cohort=16, survivors=15, started=at, finished=at + 34))
        database.add_dropouts([DropoutRow(**session, device_id="device-7", stage="query.shares", reason="no answer")])
        queries = 300 - 10 * number
        paid = [
            LedgerEntry(at, Payer.OPERATOR, Kind.ESCALATIONS, queries, "query", 5e-4, queries * 5e-4),
            LedgerEntry(at, Payer.DEVICE_OWNER, Kind.DEVICE_INFERENCE, 90.0, "J", 1e-7, 9e-6),
            LedgerEntry(at, Payer.DEVICE_OWNER, Kind.DEVICE_HARDWARE, 960.0, "s", 1e-5, 9.6e-3),
        ]
        database.add_ledger(number, paid)
        database.happenings.add_event("round.finished", f"round {number} is finished", at=at + 40, round_number=number)
    left = "device-7 left the update session: no answer"
    database.happenings.add_event("device.left", left, at=1_700_001_000.0, round_number=rounds)


class Listening:
    """A console that listens on loopback; it can end, and come back at the same address."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Begin, or begin again."""
        self._socket = socket.create_server(("127.0.0.1", self._port))
        self._port = self._socket.getsockname()[1]
        # Streams of events never end by themselves: 0 s would mean to wait for them for ever.
        config = uvicorn.Config(self._app, log_level="critical", ws="none", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    def stop(self) -> None:
        """End; every connection is cut."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Served:
    """A live server's console with something on every page; ``ada`` is an operator, ``vera`` a viewer."""

    home: ServerHome
    database: Database
    releases: list[str]
    console: Listening

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return self.console.address


@contextmanager
def served(folder: Path, make_release: Any, *, rounds: int = 14) -> Iterator[Served]:
    """A server's folder, a run in a database, and a console over both."""
    home = server_home(folder / "server")
    releases = device_and_releases(home, make_release)
    said = Presence(
        release=releases[1], supply="battery", sensor="battery", profile="raspberry-pi-4", queue=17, fedge="0.1.0"
    )
    Authority(home.authority).note_reports({"device-1": Report(time.time(), said)})
    passwords = Passwords(PasswordHasher.from_parameters(CHEAPEST))
    with Database.open(f"sqlite:///{folder / 'aggregator.sqlite'}") as database:
        record_run(database, rounds=rounds)
        accounts = Accounts(database, passwords=passwords)
        accounts.add("ada", Role.OPERATOR, PASSWORD)
        accounts.add("vera", Role.VIEWER, PASSWORD)
        about = {"federation": "test", "n_min": 11, "period_s": 3600.0}
        with Listening(create_app(database, federation=about, operator=Operator(home), passwords=passwords)) as console:
            yield Served(home, database, releases, console)


def log_in(page: Any, address: str, name: str) -> None:
    """Log in by the form, in a browser's page; ends on the overview."""
    page.goto(f"{address}/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.locator(".account", has_text=name).wait_for()


def act(page: Any, action: str, *, confirm: str, reason: str) -> None:
    """Open the form that acts, fill it in and send it."""
    form = page.locator(f"form[action='{action}']")
    page.locator("details.act").filter(has=form).locator("summary").click()
    form.locator("[name=confirm]").fill(confirm)
    form.locator("[name=reason]").fill(reason)
    form.get_by_role("button").click()
