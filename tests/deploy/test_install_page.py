"""The install page names commands, files and settings that exist, and fits a screen."""

import re

from edge_client.settings import DeviceSettings
from fedge.costs import load_profiles
from fedge.settings import describe


def page(root):
    return (root / "docs/install.md").read_text(encoding="utf-8")


def test_every_command_on_the_page_is_one(root, is_fedge_command):
    found = re.findall(r"(?:^|[`/ ])fedge ((?:device|devices|server) [^`#\n]*)", page(root))
    assert len(found) >= 4
    for arguments in found:
        is_fedge_command(arguments.strip())


def test_every_file_and_extra_on_the_page_exists(root):
    text = page(root)
    files = re.findall(r"\bdeploy/[\w./@-]+\w", text)
    assert len(files) >= 4
    assert [name for name in files if not (root / name).exists()] == []
    assert set(re.findall(r"--extra (\w+)", text)) == {"device"}


def test_profiles_and_settings_on_the_page_exist(root):
    text = page(root)
    named = re.findall(r'"(raspberry-pi-\d|jetson-[\w-]+)"', text)
    assert len(named) == 3 and set(named) <= set(load_profiles())
    assert 'mode = "off"' in text and "node.mode" in {key for key, *_ in describe(DeviceSettings)}


def test_the_page_is_one_screen(root):
    assert len(page(root).splitlines()) <= 45
