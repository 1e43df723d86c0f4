"""The reference of settings is what the typed settings say."""

from pathlib import Path

from aggregator.settings import ServerSettings
from cli.reference import reference
from edge_client.settings import DeviceSettings
from fedge.settings import describe

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_the_committed_page_is_the_generated_one():
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: fedge server config --reference > docs/configuration.md"


def test_every_setting_of_server_and_device_is_on_the_page():
    page = reference()
    for model in (ServerSettings, DeviceSettings):
        for key, _, _, description in describe(model):
            assert f"| `{key}` |" in page and description, key
