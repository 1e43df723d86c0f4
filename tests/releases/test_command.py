"""`fedge releases`: the operator's word on releases, over the server's own folder."""

import getpass
import json
import shutil
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from aggregator.fleet.keys import AggregatorKeys
from aggregator.releases.publication import tuf_repository
from aggregator.releases.registry import ReleaseRegistry
from aggregator.settings import ServerHome
from aggregator.store import Database
from cli.main import app
from edge_client.releases.tuf_source import TufSource
from edge_client.settings import DeviceHome
from fedge.errors import InputError, VerificationError
from fedge.release import CertificateDocument, sign_release


class Fleet:
    def __init__(self, folder, make_release):
        self.home, self.make_release = ServerHome(folder), make_release
        folder.mkdir()
        self.home.settings_file.write_text('federation = "test"\n')
        self.keys = AggregatorKeys.open(self.home.keys)
        self.home.trust.write_bytes(self.keys.trust_root(Ed25519PrivateKey.generate().public_key()).to_bytes())
        self.registry = ReleaseRegistry(self.home.registry, self.keys.release.public_key())
        self.tuf = tuf_repository(self.home, self.home.settings())
        self.tuf.create()

    def add(self, version, *, promote=False):
        made = self.make_release(scale=float(version), version=version)
        release_id = self.registry.publish(sign_release(made.manifest, made.files, self.keys.release), at=float(version))
        if promote:
            self.registry.promote(release_id, at=float(version), reason=f"round {version}")
        self.tuf.publish(self.registry)
        return release_id

    def run(self, *arguments):
        done = CliRunner().invoke(app, ["releases", *arguments, "--home", str(self.home.folder)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.stdout

    def list(self):
        return json.loads(self.run("list", "--json"))


@pytest.fixture
def fleet(tmp_path, make_release):
    return Fleet(tmp_path / "fleet", make_release)


@pytest.fixture
def device(fleet, server, tmp_path):
    """A device that looks at the commands' repository, through the real service."""
    from aggregator.releases.service import add_releases

    server.open(lambda grpc_server: add_releases(grpc_server, fleet.tuf.public))
    home = DeviceHome(tmp_path / "device")
    home.tuf.mkdir(parents=True)
    (home.tuf / "root.json").write_bytes(fleet.tuf.root())
    return TufSource(home, server.channel, "device-1")


def step(at, name, before, after, reason, *, share=None, actor="fedge"):
    return {"at": at, "step": name, "from": before, "to": after, "share": share, "reason": reason, "actor": actor}


def test_the_list_says_state_channel_and_reason(fleet):
    first, second = fleet.add(1, promote=True), fleet.add(2)
    fleet.registry.put_on_canary(second, share=0.25, at=3.0, reason="round 2; canary")
    assert fleet.list() == [
        {
            "release": first,
            "version": 1,
            "state": "active",
            "channel": "stable",
            "share": None,
            "certificate": None,
            "since": 1.0,
            "reason": "round 1",
            "history": [
                step(1.0, "published", None, "candidate", "published"),
                step(1.0, "promoted", "candidate", "active", "round 1"),
            ],
        },
        {
            "release": second,
            "version": 2,
            "state": "candidate",
            "channel": "canary",
            "share": 0.25,
            "certificate": None,
            "since": 3.0,
            "reason": "round 2; canary",
            "history": [
                step(2.0, "published", None, "candidate", "published"),
                step(3.0, "canary", "candidate", "candidate", "round 2; canary", share=0.25),
            ],
        },
    ]
    shown = fleet.run("list")
    assert first[:12] in shown
    assert "canary 25%" in shown


@pytest.mark.parametrize(("life_s", "index", "said"), [(3600, 2, "empirical"), (3600, None, "none"), (-1, 2, "expired")])
def test_the_list_says_what_a_certificate_says_and_not_that_there_is_one(fleet, certify, life_s, index, said):
    release_id = fleet.add(1, promote=True)
    issued_at = int(time.time()) - 10
    document = certify(
        fleet.registry.release(release_id), index=index, issued_at=issued_at, life_s=10 + life_s, key=fleet.keys.release
    )
    fleet.registry.add_certificate(CertificateDocument.from_bytes(document), at=1.0)
    assert [entry["certificate"] for entry in fleet.list()] == [said]
    assert said in fleet.run("list")


def test_promoting_reaches_devices_at_their_next_look(fleet, device):
    fleet.add(1, promote=True)
    second = fleet.add(2)
    fleet.run("promote", second[:8], "--reason", "it looks good")
    assert device.latest().release_id == second
    assert fleet.list()[1]["reason"] == "it looks good"
    with Database.open(fleet.home.database_url) as database:
        me, steps = getpass.getuser(), database.rollouts.of(second)
        assert [(one.step, one.actor, one.reason) for one in steps] == [
            ("published", "fedge", "published"),
            ("promoted", me, "it looks good"),
        ]
        (act,) = database.audit.latest(5)
        assert (act.action, act.target, act.actor, act.reason) == ("release.promote", second, me, "it looks good")


def test_a_rollback_reaches_devices_with_the_word_that_lets_them_go_back(fleet, device):
    first, second = fleet.add(1, promote=True), fleet.add(2, promote=True)
    assert device.latest().release_id == second
    fleet.run("rollback", "--reason", "too many complaints")
    latest = device.latest()
    assert (latest.release_id, latest.withdrawn) == (first, {second})
    assert [entry["reason"] for entry in fleet.list()][1] == "too many complaints"


def test_a_rollback_takes_the_canary_first(fleet):
    first = fleet.add(1, promote=True)
    second = fleet.add(2)
    fleet.registry.put_on_canary(second, share=0.25, at=3.0, reason="canary")
    assert "is rejected" in fleet.run("rollback")
    assert [entry["state"] for entry in fleet.list()] == ["active", "rejected"]
    assert fleet.registry.active() == first


def test_the_root_is_rotated_and_devices_follow(fleet, device, tmp_path):
    assert "root 2 is signed" in fleet.run("rotate-root", "--new-root-keys", str(tmp_path / "new"), "--online")
    release_id = fleet.add(1, promote=True)
    assert device.latest().release_id == release_id
    with pytest.raises(InputError, match="0 of the root keys"):
        fleet.run("rotate-root")
    assert "root 3 is signed" in fleet.run("rotate-root", "--root-keys", str(tmp_path / "new"))


def test_after_a_restored_backup_one_command_lets_devices_go_on(fleet, device, tmp_path):
    fleet.add(1, promote=True)
    shutil.copytree(fleet.home.tuf, tmp_path / "backup")
    second = fleet.add(2, promote=True)
    assert device.latest().release_id == second
    shutil.rmtree(fleet.home.tuf)
    shutil.copytree(tmp_path / "backup", fleet.home.tuf)
    with pytest.raises(VerificationError):
        device.latest()
    fleet.run("restored")
    assert device.latest().release_id == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("promote", "ffff"), "no release begins with that"),
        (("promote", "ff"), "at least 4 digits"),
        (("rollback",), "no earlier release"),
        (("rotate-root", "--root-keys", "/nowhere"), "holds no root keys"),
    ],
)
def test_what_cannot_be_done_is_one_line(fleet, arguments, message):
    fleet.add(1, promote=True)
    with pytest.raises(InputError, match=message) as refused:
        fleet.run(*arguments)
    assert "\n" not in str(refused.value)


def test_an_active_release_is_not_promoted_again(fleet):
    with pytest.raises(InputError, match="is active, not candidate"):
        fleet.run("promote", fleet.add(1, promote=True))


def test_a_folder_without_releases_is_said_to_be_one(tmp_path):
    done = CliRunner().invoke(app, ["releases", "list", "--home", str(tmp_path)])
    assert "fedge server init" in str(done.exception)
