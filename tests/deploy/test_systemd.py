"""The units: hardened by systemd's own measure, known to it word for word, and running commands that exist."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = ("fedge-device.service", "fedge-server@.service")
MOST_EXPOSED = 2.0
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


class Unit(configparser.RawConfigParser):
    """A unit file; a key that stands several times keeps its last value, which is enough here."""

    def __init__(self, text: str) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
        self.optionxform = str  # type: ignore[assignment]
        self.read_string(text)


def unit(root: Path, name: str) -> Unit:
    return Unit((root / "deploy/systemd" / name).read_text())


def exposure(path: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert found, done.stdout[-500:]
    return float(found[1])


@analyze
@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_exposed_to_little(root, name):
    assert exposure(root / "deploy/systemd" / name) <= MOST_EXPOSED


@analyze
def test_a_bare_unit_would_not_pass(root, tmp_path):
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(bare) > 9


@analyze
def test_the_power_sensors_drop_in_keeps_the_device_hardened(root, tmp_path):
    folder = root / "deploy/systemd"
    both = tmp_path / "fedge-device.service"
    both.write_text((folder / UNITS[0]).read_text() + (folder / "pmic.conf").read_text())
    assert exposure(both) <= MOST_EXPOSED


@analyze
@pytest.mark.parametrize("name", UNITS)
def test_systemd_knows_every_word_of_a_unit(root, tmp_path, name):
    copy = tmp_path / name.replace("@", "@door")
    # The program is installed elsewhere; everything else is judged as it stands.
    copy.write_text((root / "deploy/systemd" / name).read_text().replace("/opt/fedge/bin/fedge", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False, timeout=60)
    said = [line for line in done.stderr.splitlines() if copy.name in line]
    assert said == []


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_runs_a_real_command_as_a_user_of_its_own_in_a_folder_that_is_its_own(root, is_fedge_command, name):
    service = unit(root, name)["Service"]
    program, arguments = service["ExecStart"].split(" ", 1)
    assert program == "/opt/fedge/bin/fedge"
    is_fedge_command(arguments.replace("%i", "door"))
    assert service["User"] != "root"
    home = arguments.split("--home ")[1].split()[0]
    assert Path(home).is_relative_to(f"/var/lib/{service['StateDirectory']}")
    assert service["StateDirectoryMode"] == "0700"


def test_every_part_of_the_server_is_named_in_the_template(root):
    from aggregator.processes import PARTS

    text = (root / "deploy/systemd/fedge-server@.service").read_text()
    assert all(f"@{part}" in text for part in PARTS)


def test_the_device_tells_when_it_is_ready_and_is_bounded_and_restarted(root):
    service = unit(root, "fedge-device.service")["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    # An agent with Flower's node keeps up to 160 MB.
    assert 160 < int(service["MemoryMax"].removesuffix("M")) <= 512
    assert service["CPUQuota"].endswith("%")


def test_onnxruntime_can_read_what_it_needs_of_the_processor(root):
    """ProcSubset=pid hides /proc/cpuinfo, without which importing onnxruntime crashes on ARM."""
    assert "ProcSubset" not in unit(root, "fedge-device.service")["Service"]


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_accounts_are_ones_that_systemd_can_make(root):
    from_file = root / "deploy/systemd/fedge.sysusers"
    names = {line.split()[1] for line in from_file.read_text().splitlines() if line.startswith("u ")}
    assert names == {unit(root, name)["Service"]["User"] for name in UNITS}
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", str(from_file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
