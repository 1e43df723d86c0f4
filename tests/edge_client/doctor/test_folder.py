"""Settings, keys, certificates and the disk: each branch on a real folder."""

import shutil
from collections import namedtuple

import pytest

from edge_client.doctor.folder import disk, papers, read
from edge_client.settings import DeviceHome

Usage = namedtuple("Usage", "total used free")


def outcomes(findings, check):
    return [finding.outcome for finding in findings if finding.check == check]


def test_a_folder_without_settings_has_not_joined(tmp_path):
    settings, finding = read(DeviceHome(tmp_path))
    assert (settings, finding.outcome, finding.remedy) == (None, "warn", "fedge device enroll")


def test_a_folder_of_other_things_or_a_file_is_no_device_and_fails(tmp_path):
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"")
    for place in (other, other / "cat.jpg"):
        settings, finding = read(DeviceHome(place))
        assert (settings, finding.outcome) == (None, "fail")
        assert finding.says == f"{place} holds something else: no device.toml is in it"
        assert "--home" in finding.remedy


def test_a_folder_that_is_not_there_yet_has_not_joined(tmp_path):
    settings, finding = read(DeviceHome(tmp_path / "later"))
    assert (settings, finding.outcome) == (None, "warn")


def test_settings_that_cannot_be_used_are_one_line(fleet):
    fleet.home.settings_file.write_text('device_id = "d"\nfleet = "a:1"\ncentral = "a:2"\nnonsense = 1\n')
    settings, finding = read(fleet.home)
    assert (settings, finding.outcome) == (None, "fail")
    assert "nonsense is no setting" in finding.says


def test_good_settings_name_the_device(fleet):
    fleet.settings()
    settings, finding = read(fleet.home)
    assert settings is not None and settings.device_id == "device-1"
    assert finding.outcome == "ok"


def test_fresh_certificates_and_private_keys_are_fine(fleet, now):
    fleet.give()
    found = papers(fleet.home, now)
    assert [finding.outcome for finding in found.findings] == ["ok", "ok"]
    assert "23.0 hours" in found.findings[0].says
    assert len(found.validities) == 2


def test_past_two_thirds_of_its_life_a_certificate_should_have_been_renewed(fleet, now, hour):
    fleet.give(holds=(now - 17 * hour, now + 7 * hour))
    found = papers(fleet.home, now)
    assert outcomes(found.findings, "certificate") == ["warn", "warn"]
    fleet.give(holds=(now - 15 * hour, now + 9 * hour))
    assert outcomes(papers(fleet.home, now).findings, "certificate") == ["ok", "ok"]


def test_a_certificate_that_ended_or_has_not_begun_fails(fleet, now, hour):
    fleet.give(holds=(now - 25 * hour, now - hour))
    (ended, _) = papers(fleet.home, now).findings
    assert (ended.outcome, "ended at" in ended.says) == ("fail", True)
    fleet.give(holds=(now + hour, now + 25 * hour))
    (future, _) = papers(fleet.home, now).findings
    assert (future.outcome, "clock" in future.remedy) == ("fail", True)


def test_a_missing_or_damaged_certificate_fails(fleet, now):
    fleet.home.tls_certificate.unlink()
    fleet.home.identity_certificate.write_bytes(b"\x30\x03abc")
    found = papers(fleet.home, now)
    assert outcomes(found.findings, "certificate") == ["fail", "fail"]
    assert found.validities == []


def test_a_key_that_others_may_read_fails_and_one_that_is_missing_too(fleet, now):
    fleet.home.identity_key.chmod(0o640)
    fleet.home.node_key.unlink()
    findings = [finding for finding in papers(fleet.home, now).findings if finding.check == "keys"]
    assert [finding.outcome for finding in findings] == ["fail", "fail"]
    assert "0640" in findings[0].says and "missing" in findings[1].says
    assert b"PRIVATE" not in "".join(finding.says for finding in findings).encode()


@pytest.mark.parametrize(("free_mb", "outcome"), [(10, "fail"), (100, "warn"), (10_000, "ok")])
def test_the_disk_needs_room(tmp_path, monkeypatch, free_mb, outcome):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, free_mb * 2**20))
    assert disk(tmp_path).outcome == outcome


def test_a_folder_that_is_not_there_yet_stands_on_its_parents_disk(tmp_path):
    assert disk(tmp_path / "a" / "b").says.endswith(str(tmp_path))


def test_a_disk_that_cannot_be_written_fails(monkeypatch, tmp_path):
    """A worn card turns read-only; root would be let through by mode bits, so the answer of the system call is set."""
    monkeypatch.setattr("os.access", lambda path, mode: False)
    finding = disk(tmp_path)
    assert (finding.outcome, "cannot be written" in finding.says) == ("fail", True)
