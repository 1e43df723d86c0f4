"""Releases over TUF, from the server's registry to a device's source, with the real service between them."""

import shutil
import stat

import pytest
from tuf.api.metadata import Metadata, Root

from aggregator.releases.tuf_keys import make_key, make_online
from edge_client.releases.tuf_source import SourceUnreachable
from edge_client.settings import DeviceHome
from fedge.errors import InputError, VerificationError
from fedge.release import CertificateDocument, Manifest, assemble_release, write_release


def assembled(pieces, release_key):
    named = {name: pieces.files[digest] for name, digest in Manifest.from_bytes(pieces.manifest).files.items()}
    return assemble_release(pieces.manifest, pieces.signature, named, release_key=release_key.public_key())


def test_a_device_gets_what_was_published_byte_for_byte(server, tmp_path, make_release, release_key, certify):
    release = make_release()
    document = certify(release)
    source = server.device(tmp_path / "device")
    assert source.latest().release_id is None
    release_id = server.publish(release, certificate=CertificateDocument.from_bytes(document))
    latest = source.latest()
    assert (latest.release_id, latest.certificate) == (release_id, document)
    assert assembled(source.fetch(release_id, ()), release_key) == release


def test_a_candidate_can_be_fetched_before_it_is_promoted(server, tmp_path, make_release):
    server.publish(make_release())
    source = server.device(tmp_path / "device")
    source.latest()
    candidate = server.publish(make_release(scale=3.0, version=2), promote=False)
    assert source.fetch(candidate, ()).files
    assert source.latest().release_id != candidate


def test_a_file_that_did_not_change_is_not_downloaded_again(server, tmp_path, make_release):
    first, second = make_release(), make_release(version=2)
    source = server.device(tmp_path / "device")
    server.publish(first)
    have = source.fetch(first.release_id, ()).files.keys()
    server.publish(second)
    source.latest()
    before = source.received_bytes
    pieces = source.fetch(second.release_id, have)
    unchanged = second.manifest.files["infer.onnx"]
    assert unchanged not in pieces.files
    assert source.received_bytes - before == pieces.size_bytes
    # Nor after a restart, when nobody says what the device has: the files lie in its own folders.
    again = server.device(tmp_path / "device")
    assert again.fetch(second.release_id, ()).files[unchanged] == second.files["infer.onnx"]
    assert again.received_bytes < before


def test_a_file_is_offered_once_however_many_releases_have_it(server, make_release):
    server.publish(make_release())
    server.publish(make_release(version=2))
    unchanged = make_release().manifest.files["infer.onnx"]
    assert len(list((server.tuf.public / "targets" / "files").glob(f"*{unchanged}"))) == 1


def test_publishing_twice_signs_nothing_new(server, make_release):
    server.publish(make_release())
    before = sorted(path.name for path in (server.tuf.public / "metadata").iterdir())
    assert not server.tuf.publish(server.registry)
    assert sorted(path.name for path in (server.tuf.public / "metadata").iterdir()) == before


def test_keys_are_the_owners_alone_and_the_root_key_stands_apart(server):
    for folder in (server.tuf.keys, server.tuf.root_keys):
        keys = list(folder.glob("*.key"))
        assert keys
        assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    assert not list(server.tuf.keys.glob("root*"))


def test_publishing_and_refreshing_need_no_root_key(server, tmp_path, make_release):
    shutil.move(server.tuf.root_keys, tmp_path / "offline")
    release_id = server.publish(make_release())
    server.clock.now += 20 * 3600
    assert server.tuf.refresh() == ("timestamp",)
    assert server.device(tmp_path / "device").latest().release_id == release_id


def test_refresh_renews_each_role_before_it_expires(server, make_release):
    server.publish(make_release())
    assert server.tuf.refresh() == ()
    steps = ((13, ("timestamp",)), (4 * 24, ("snapshot", "timestamp")), (120 * 24, ("targets", "snapshot", "timestamp")))
    for hours, renewed in steps:
        server.clock.now += hours * 3600
        assert server.tuf.refresh() == renewed
        expires = server.tuf.expires()
        assert all(expires[role] > server.clock.now for role in renewed)


def test_a_door_without_the_release_key_still_renews_the_timestamp(server, make_release):
    server.publish(make_release())
    (server.tuf.keys / "release.key").unlink()
    server.clock.now += 120 * 24 * 3600
    assert server.tuf.refresh() == ("snapshot", "timestamp")


def test_old_metadata_and_targets_go_after_a_day_and_roots_never(server, tmp_path, make_release):
    first = make_release()
    server.publish(first)
    server.publish(make_release(scale=3.0, version=2))
    server.publish(make_release(scale=4.0, version=3))
    server.tuf.rotate()
    infer = first.manifest.files["infer.onnx"]
    assert list((server.tuf.public / "targets" / "files").glob(f"*{infer}"))
    server.clock.now += 25 * 3600
    server.publish(make_release(scale=5.0, version=4))
    assert not list((server.tuf.public / "targets" / "files").glob(f"*{infer}"))
    names = [path.name for path in (server.tuf.public / "metadata").iterdir()]
    assert {"1.root.json", "2.root.json", "1.targets.json"} & set(names) == {"1.root.json", "2.root.json"}


# Rotation and backup.


def test_a_device_with_the_first_root_follows_the_chain_of_roots(server, tmp_path, make_release):
    device = server.device(tmp_path / "device")
    device.latest()
    for number in range(3):
        previous = tmp_path / f"root-{number - 1}" if number else None
        server.tuf.rotate(root_keys=previous, new_root_keys=tmp_path / f"root-{number}", online=("targets", "timestamp"))
    release_id = server.publish(make_release())
    assert device.latest().release_id == release_id
    assert Metadata[Root].from_bytes((DeviceHome(tmp_path / "device").tuf / "root.json").read_bytes()).signed.version == 4
    with pytest.raises(InputError, match="0 of the root keys"):
        server.tuf.rotate()  # the first keys have no say any more


def test_a_root_that_the_old_keys_did_not_sign_is_refused(server, tmp_path):
    device = server.device(tmp_path / "device")
    device.latest()
    other = type(server.tuf)(tmp_path / "other", clock=server.clock)
    other.create()
    other.rotate()
    shutil.copy(other.public / "metadata" / "2.root.json", server.tuf.public / "metadata" / "2.root.json")
    with pytest.raises(VerificationError, match="root was signed by 0/1 keys"):
        device.latest()


def test_a_threshold_of_two_needs_two_root_keys(tmp_path, server):
    tuf = type(server.tuf)(tmp_path / "two", clock=server.clock)
    tuf.create(root_keys=3, threshold=2)
    (tuf.root_keys / "root-1.key").unlink()
    assert tuf.rotate() == 2
    (tuf.root_keys / "root-2.key").unlink()
    with pytest.raises(InputError, match="1 of the root keys: 2 have to sign"):
        tuf.rotate()


def test_a_rotation_that_stopped_before_the_new_root_changes_nothing(server, make_release):
    make_online(server.tuf.keys, "timestamp", following=True)
    server.publish(make_release())
    assert server.tuf.rotate(online=("timestamp",)) == 2
    assert not list(server.tuf.keys.glob("*.next"))


def test_a_restored_backup_is_moved_ahead_and_devices_go_on(server, tmp_path, make_release):
    shutil.copytree(server.folder / "tuf", tmp_path / "backup")
    device = server.device(tmp_path / "device")
    server.publish(make_release())
    device.latest()
    shutil.rmtree(server.folder / "tuf")
    shutil.copytree(tmp_path / "backup", server.folder / "tuf")
    with pytest.raises(VerificationError):
        device.latest()  # what was signed before the device's last look is older than what it knows
    server.tuf.advance()
    server.tuf.publish(server.registry)
    assert device.latest().release_id == server.registry.active()


# What an attacker may try who holds the door, or a copy of it.


def test_a_withheld_timestamp_is_noticed_when_it_expires(server, tmp_path, make_release):
    server.clock.now -= 2 * 24 * 3600
    server.publish(make_release())
    with pytest.raises(
        VerificationError, match="no longer renews it, someone withholds the renewal, or this device's clock"
    ):
        server.device(tmp_path / "device").latest()


def test_an_older_repository_is_refused(server, tmp_path, make_release):
    shutil.copytree(server.tuf.public, tmp_path / "old")
    device = server.device(tmp_path / "device")
    server.publish(make_release())
    device.latest()
    shutil.rmtree(server.tuf.public)
    shutil.copytree(tmp_path / "old", server.tuf.public)
    with pytest.raises(VerificationError, match=r"timestamp version|snapshot version|targets\.json"):
        device.latest()


def test_targets_of_another_time_do_not_fit_the_snapshot(server, tmp_path, make_release):
    server.publish(make_release())
    old = (server.tuf.public / "metadata" / "2.targets.json").read_bytes()
    server.publish(make_release(scale=3.0, version=2))
    (server.tuf.public / "metadata" / "3.targets.json").write_bytes(old)
    with pytest.raises(VerificationError, match="releases:"):
        server.device(tmp_path / "device").latest()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_metadata_signed_by_another_key_is_refused(server, tmp_path, make_release, role):
    server.publish(make_release())
    folder = server.tuf.public / "metadata"
    path = folder / "timestamp.json" if role == "timestamp" else max(folder.glob(f"*.{role}.json"))
    metadata = Metadata.from_bytes(path.read_bytes())
    metadata.sign(make_key(tmp_path / "other.key"))
    path.write_bytes(metadata.to_bytes())
    with pytest.raises(VerificationError, match="releases:"):
        server.device(tmp_path / "device").latest()


@pytest.mark.parametrize("damage", [b"", b"x" * 40, None])
def test_a_damaged_file_is_refused_and_taken_once_it_is_whole_again(server, tmp_path, make_release, damage):
    release = make_release()
    server.publish(release)
    (path,) = (server.tuf.public / "targets" / "files").glob(f"*{release.manifest.files['infer.onnx']}")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"!" if damage is None else damage)
    device = server.device(tmp_path / "device")
    with pytest.raises((VerificationError, SourceUnreachable)):
        device.fetch(release.release_id, ())
    path.write_bytes(whole)
    if damage:  # the wrong beginning was kept, as after any lost connection: found out and dropped at the next try
        with pytest.raises(VerificationError):
            device.fetch(release.release_id, ())
    assert device.fetch(release.release_id, ()).files


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json"])
def test_metadata_without_end_is_cut_off(server, tmp_path, name):
    device = server.device(tmp_path / "device")
    (server.tuf.public / "metadata" / name).write_bytes(b" " * 40_000_000)
    with pytest.raises(VerificationError, match="exceeding"):
        device.latest()
    assert device.received_bytes < 2_000_000


def test_a_target_that_is_longer_than_announced_is_cut_off(server, tmp_path, make_release):
    release = make_release()
    server.publish(release)
    (path,) = (server.tuf.public / "targets" / "files").glob(f"*{release.manifest.files['infer.onnx']}")
    path.write_bytes(path.read_bytes() + b" " * 40_000_000)
    device = server.device(tmp_path / "device")
    with pytest.raises(VerificationError, match="longer than"):
        device.fetch(release.release_id, ())
    assert device.received_bytes < 2_000_000


def test_without_a_door_the_source_says_so_and_goes_on_when_it_is_back(server, tmp_path):
    device = server.device(tmp_path / "device")
    server.close()
    with pytest.raises(SourceUnreachable, match="annot invoke RPC"):
        device.latest()
    server.open()
    assert device.latest().release_id is None


def test_an_installed_release_is_had_without_a_download(server, tmp_path, make_release, release_key):
    release = make_release()
    server.publish(release)
    write_release(tmp_path / "device" / "releases" / release.release_id, release)
    device = server.device(tmp_path / "device")
    device.latest()
    before = device.received_bytes
    assert assembled(device.fetch(release.release_id, ()), release_key) == release
    assert device.received_bytes == before
    assert not [path for path in (tmp_path / "device" / "releases" / "downloads").iterdir() if "files" in path.name]
