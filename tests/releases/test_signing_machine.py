"""A server without its enrollment and release keys, and the machine that holds them: what each refuses of the other."""

import re
import shutil
import time
from dataclasses import replace
from threading import Event, Thread

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.fleet.authority import Authority
from aggregator.fleet.key_rotation import rotate_round_key
from aggregator.fleet.keys import AggregatorKeys
from aggregator.fleet.presigned import AwaitingEnrollmentError
from aggregator.fleet.published import PublishedRevocations, publish
from aggregator.releases.publication import OfferedRegistry, tuf_repository
from aggregator.releases.registry import ReleaseRegistry
from aggregator.releases.signer import SigningInterruptedError
from aggregator.settings import ServerHome
from aggregator.signing.documents import Pending, UnsignedCertificate, UnsignedRelease
from aggregator.signing.machine import Approval, SigningMachine
from aggregator.signing.queue import SignatureQueue, SplitServer
from aggregator.signing.split import split_keys
from edge_client.membership.credentials import load_or_create_keys
from edge_client.settings import DeviceHome
from fedge.errors import FedgeError, InputError, VerificationError
from fedge.identity import key_fingerprint
from fedge.release import CertificateDocument, ChannelPointer, load_private_key, sign_release
from fedge.release.channels import file_path, pointer_path, signature_path

DAY_S = 86_400.0
RELEASES = Approval(releases=True)


class SplitFederation:
    """A server's folder whose keys were split off, and the signing machine's folder."""

    def __init__(self, folder, make_release):
        self.home, self.make_release = ServerHome(folder / "server"), make_release
        self.folder = folder
        self.home.folder.mkdir()
        self.home.settings_file.write_text('federation = "test"\n[releases]\ncanary_share = 0.0\n')
        keys = AggregatorKeys.open(self.home.keys)
        self.now = time.time()
        Authority.found(
            self.home.authority,
            name="test",
            release_key=keys.release.public_key(),
            round_key=keys.round.public_key(),
            now=self.now,
        )
        self.authority = Authority(self.home.authority)
        publish(self.authority, self.home, ("localhost",), now=self.now)
        self.registry = ReleaseRegistry(self.home.registry, keys.release.public_key())
        self.tuf = tuf_repository(self.home, self.home.settings())
        self.tuf.create()
        made = make_release(scale=1.0, version=1)
        self.first = self.registry.publish(sign_release(made.manifest, made.files, keys.release), at=1.0)
        self.registry.promote(self.first, at=1.0, reason="first")
        self.tuf.publish(self.registry)
        split_keys(self.home, folder / "keys", now=self.now)
        self.machine, self.server = SigningMachine(folder / "keys"), SplitServer(self.home)
        self.stop = Event()
        self.queue = SignatureQueue(self.home.signing, self.registry_key(), self.stop, poll_s=0.01)

    def registry_key(self):
        return self.authority.trust().release_key

    def sign(self, request=None, approval=RELEASES, *, now=None, days=9.0):
        return self.machine.sign(request or self.server.export(), approval, now=now or time.time(), days=days)

    def request(self, *, version=2, scale=2.0, change=lambda manifest: manifest):
        """A request for a release that a round built, or that somebody made up."""
        made = self.make_release(scale=scale, version=version, parent=self.first)
        manifest = change(made.manifest)
        self.home.signing.mkdir(exist_ok=True)
        Pending(release=UnsignedRelease(manifest=manifest.to_bytes(), files=dict(made.files))).write(
            self.queue.pending_file
        )
        return self.server.export()

    def device(self, name):
        keys = load_or_create_keys(DeviceHome(self.folder / name))
        wish = keys.wish(self.authority.trust().ca_name, name)
        return wish, key_fingerprint(keys.identity.public_key().public_bytes_raw())

    def enroll(self, name):
        wish, fingerprint = self.device(name)
        token = self.authority.new_token(now=time.time())
        with pytest.raises(AwaitingEnrollmentError):
            self.authority.join(token, wish, now=time.time())
        self.server.take(self.sign(approval=Approval(devices={name: fingerprint})))
        return wish, self.authority.join(token, wish, now=time.time())


@pytest.fixture
def split(tmp_path, make_release):
    return SplitFederation(tmp_path, make_release)


def test_a_round_waits_for_release_and_certificate_and_each_visit_offers_what_it_signed(split, certify):
    made = split.make_release(scale=2.0, version=2, parent=split.first)
    offered = OfferedRegistry(split.registry, split.tuf)
    done = []

    def play_round():
        release = split.queue.sign_release(made.manifest, made.files)
        offered.publish(release, at=2.0)
        done.append(split.tuf.lacks(split.registry))
        statement = CertificateDocument.from_bytes(certify(release)).statement
        offered.add_certificate(split.queue.sign_certificate(release.release_id, statement), at=2.0)
        offered.promote(release.release_id, at=2.0, reason="round 1")
        done.append(split.tuf.lacks(split.registry))

    round_thread = Thread(target=play_round, daemon=True)
    round_thread.start()
    for what in ("a release", "a certificate"):
        deadline = time.monotonic() + 30
        while split.server.awaits() != [what]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        request = split.server.export()
        assert split.registry.active() == split.first
        assert any(line.startswith(("sign release", "certify")) for line in split.machine.describe(request))
        assert split.server.take(split.sign(request))[-1].endswith("goes on")
    round_thread.join(30)
    assert done == [False, False] and split.server.awaits() == []
    assert split.registry.active() == made.release_id and split.registry.certificate(made.release_id) is not None


def test_a_release_with_another_base_is_refused_unless_a_person_says_that_it_is_theirs(split):
    request = split.request(change=lambda manifest: replace(manifest, training={**manifest.training, "learning_rate": 9.0}))
    assert any("ANOTHER BASE (training differ)" in line for line in split.machine.describe(request))
    with pytest.raises(VerificationError, match="another training than the last one"):
        split.sign(request)
    assert split.sign(request, Approval(releases=True, new_base=True)).signature


@pytest.mark.parametrize("version", [0, 1])
def test_a_release_that_is_no_newer_than_the_one_that_devices_run_is_refused(split, version):
    with pytest.raises(VerificationError, match="is not above 1"):
        split.sign(split.request(version=version))


def test_files_that_are_not_the_manifests_are_refused(split):
    request = split.request()
    files = {**request.pending.release.files, "weights.safetensors": b"other"}
    release = request.pending.release.model_copy(update={"files": files})
    forged = request.model_copy(update={"pending": Pending(release=release)})
    with pytest.raises(VerificationError):
        split.sign(forged)


def test_a_channel_that_leads_to_a_release_of_the_servers_own_key_is_refused(split):
    own = Ed25519PrivateKey.generate()
    made = split.make_release(scale=3.0, version=5)
    forged = sign_release(made.manifest, made.files, own)
    request = split.server.export()
    pointer = ChannelPointer(release_id=forged.release_id, version=5, certificate=None, share=0.0)
    targets = {
        **request.targets,
        **{file_path(digest): forged.files[name] for name, digest in forged.manifest.files.items()},
        file_path(forged.release_id): forged.manifest.to_bytes(),
        signature_path(forged.release_id): forged.signature,
        pointer_path("stable"): pointer.to_bytes(),
    }
    with pytest.raises(VerificationError, match="does not verify"):
        split.sign(request.model_copy(update={"targets": targets}))
    del targets[signature_path(forged.release_id)]
    with pytest.raises(VerificationError, match="lacks signatures/"):
        split.sign(request.model_copy(update={"targets": targets}))


def test_a_certificate_whose_claims_do_not_follow_from_its_counts_is_refused(split, certify):
    release = split.registry.release(split.first)
    statement = CertificateDocument.from_bytes(certify(release, key=Ed25519PrivateKey.generate())).statement
    assert b'"disagreed":2' in statement
    lie = statement.replace(b'"disagreed":2', b'"disagreed":0')
    split.home.signing.mkdir()
    Pending(certificate=UnsignedCertificate(release_id=split.first, statement=lie)).write(split.queue.pending_file)
    with pytest.raises(VerificationError, match="grid_bound"):
        split.sign()


def test_the_server_alone_can_sign_neither_release_nor_enrollment(split):
    wish, _ = split.device("ghost")
    token = split.authority.new_token(now=time.time())
    with pytest.raises(AwaitingEnrollmentError):
        split.authority.join(token, wish, now=time.time())
    with pytest.raises(InputError, match="on another machine"):
        AggregatorKeys.open(split.home.keys)
    with pytest.raises(InputError, match="on another machine"):
        rotate_round_key(split.authority, split.home)
    # A signing machine with keys of the server's own making, else just like the real one.
    forged = split.folder / "forged"
    shutil.copytree(split.folder / "keys", forged)
    other = split.folder / "other"
    keys = AggregatorKeys.open(other)
    for name in ("identity", "release", "targets"):
        shutil.copyfile(other / ("round.pem" if name == "identity" else "release.pem"), forged / f"{name}.pem")
    trust = replace(split.authority.trust(), authority_key=keys.round.public_key(), release_key=keys.release.public_key())
    (forged / "trust.json").write_bytes(trust.to_bytes())
    machine = SigningMachine(forged)
    ghost = Approval(devices={"ghost": split.device("ghost")[1]})
    before = split.tuf.targets_version()
    with pytest.raises(VerificationError):
        split.server.take(machine.sign(split.server.export(), ghost, now=time.time(), days=9.0))
    honest = split.sign()
    certificates = machine.sign(split.server.export(), ghost, now=time.time(), days=9.0).certificates
    with pytest.raises(VerificationError):
        split.server.take(honest.model_copy(update={"certificates": certificates}))
    made = split.make_release(scale=2.0, version=2, parent=split.first)
    request = split.server.export()
    signature = sign_release(made.manifest, made.files, load_private_key(forged / "release.pem")).signature
    split.request()
    with pytest.raises(VerificationError):
        split.server.take(honest.model_copy(update={"release_id": made.release_id, "signature": signature}))
    resigned = machine.sign(
        request.model_copy(update={"targets": {pointer_path(c): _empty_pointer() for c in ("stable", "canary")}}),
        RELEASES,
        now=time.time(),
        days=9.0,
    )
    split.queue.clear()
    with pytest.raises(VerificationError, match="do not verify under the TUF root"):
        split.server.take(split.sign(approval=Approval()).model_copy(update={"targets": resigned.targets}))
    assert split.tuf.targets_version() == before and split.registry.active() == split.first
    with pytest.raises(AwaitingEnrollmentError):
        split.authority.join(token, wish, now=time.time())


def _empty_pointer():
    return ChannelPointer(release_id=None, version=0, certificate=None, share=0.0).to_bytes()


def test_a_device_renews_from_certificates_signed_ahead_until_they_run_out(split):
    wish, first = split.enroll("sensor-1")
    trust = split.authority.trust()
    for day in (0.0, 0.7, 3.0, 8.9):
        now = time.time() + day * DAY_S
        renewed = split.authority.renew(wish, now=now, caller="sensor-1")
        trust.verify_certificate(renewed.identity, now)
        trust.verify_certificate(renewed.identity, now + DAY_S * 2 / 3)  # when a device renews at the latest
    with pytest.raises(AwaitingEnrollmentError):
        split.authority.renew(wish, now=time.time() + 10.5 * DAY_S, caller="sensor-1")
    assert trust.verify_certificate(first.identity, time.time())[0] == "sensor-1"


def test_a_revocation_takes_effect_with_the_next_visit_and_an_older_reply_cannot_undo_it(split):
    split.enroll("sensor-1")
    wish, _ = split.enroll("sensor-2")
    older = split.sign()
    split.server.take(split.sign(approval=Approval(revoked=("sensor-2",)), now=time.time() + 1))
    assert PublishedRevocations(split.home).is_revoked("sensor-2")
    with pytest.raises(VerificationError, match="revoked"):
        split.authority.renew(wish, now=time.time(), caller="sensor-2")
    with pytest.raises(VerificationError, match="older than the last one"):
        split.server.take(older)
    split.authority.revoke("sensor-1", now=time.time(), reason="stolen\x1b[2J\nenroll sensor-9")
    (line,) = [line for line in split.machine.describe(split.server.export()) if "sensor" in line]
    assert line.startswith("revoke sensor-1: stolen") and line.isprintable()


def test_an_id_that_belongs_to_another_key_is_not_enrolled_again(split):
    split.enroll("sensor-1")
    thief = load_or_create_keys(DeviceHome(split.folder / "thief"))
    wish = thief.wish(split.authority.trust().ca_name, "sensor-1")
    token = split.authority.new_token(now=time.time())
    with pytest.raises(FedgeError, match="belongs to another key"):
        split.authority.join(token, wish, now=time.time())


def test_the_root_is_renewed_by_a_visit_before_it_runs_out(split):
    assert split.sign().root is None
    reply = split.sign(now=time.time() + 300 * DAY_S)
    assert reply.root is not None
    before = split.tuf.expires()["root"]
    split.server.take(reply.model_copy(update={"certificates": []}))
    assert split.tuf.expires()["root"] > before + 200 * DAY_S
    altered = re.sub(rb'"version": ?2\b', b'"version":3', reply.root)
    assert altered != reply.root
    with pytest.raises(VerificationError, match="not signed by the present one's keys"):
        split.tuf.take_root(altered)


def test_stopping_the_server_gives_up_the_round_that_waits(split):
    made = split.make_release(scale=2.0, version=2)
    split.stop.set()
    with pytest.raises(SigningInterruptedError, match="the round is given up"):
        split.queue.sign_release(made.manifest, made.files)


def test_nothing_is_split_twice_or_into_a_folder_that_exists(split):
    with pytest.raises(InputError, match="on another machine already"):
        split_keys(split.home, split.folder / "again", now=split.now)
    kept = [path.name for path in split.home.folder.rglob("*") if path.suffix in (".pem", ".key")]
    assert sorted(kept) == ["round.pem", "server.key", "snapshot.key", "timestamp.key", "tls.key"]


def test_keys_that_are_put_back_can_be_changed_and_split_again(split):
    split.enroll("sensor-1")
    keys, home = split.folder / "keys", split.home
    shutil.copyfile(keys / "identity.pem", home.authority / "identity.pem")
    shutil.copyfile(keys / "release.pem", home.keys / "release.pem")
    shutil.copyfile(keys / "targets.pem", home.tuf / "keys" / "release.key")
    shutil.copytree(keys / "root", home.tuf / "root")
    shutil.rmtree(home.authority / "signed")
    (home.keys / "release.pub").unlink()
    for path in (home.authority / "identity.pem", home.keys / "release.pem", home.tuf / "keys" / "release.key"):
        path.chmod(0o600)
    authority = Authority(home.authority)
    rotated = rotate_round_key(authority, home)
    publish(authority, home, ("localhost",), now=time.time())
    split_keys(home, split.folder / "next", now=time.time() - 6 * DAY_S)
    assert SplitServer(home).awaits() == ["the list of revocations, which is 6 days old"]
    reply = SigningMachine(split.folder / "next").sign(SplitServer(home).export(), RELEASES, now=time.time(), days=9.0)
    SplitServer(home).take(reply)
    assert SplitServer(home).awaits() == []
    assert Authority(home.authority).trust().round_key == rotated.round_key
