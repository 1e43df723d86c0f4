"""Settings files are read strictly, and what is wrong is said in one line."""

from pathlib import Path

import pytest

from aggregator.settings import ServerHome, ServerSettings
from edge_client.settings import DeviceSettings
from fedge.errors import InputError
from fedge.settings import describe, parse_settings, read_settings


def test_an_empty_file_gives_the_defaults_and_nested_tables_are_read():
    settings = parse_settings(ServerSettings, "[rounds]\ncohort = 16\n", source="server.toml")
    assert settings.rounds.cohort == 16
    assert settings.workload == "home"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense = 1", "server.toml: nonsense is no setting"),
        ("[rounds]\nsize = 3", "server.toml: rounds.size is no setting"),
        ("[rounds]\ncohort = 1", "server.toml: rounds.cohort is 1"),
        ("workload = 'chess'", "server.toml: workload is 'chess'"),
        ("[rounds", "server.toml is not TOML"),
        (
            "[rounds]\ncohort = 9\ncohort = 8\n",
            "server.toml is not TOML: Cannot overwrite a value (at line 3, column 11); a key or table stands there twice",
        ),
        (
            "[rounds]\n[rounds]\n",
            "server.toml is not TOML: Cannot declare ('rounds',) twice (at line 2, column 8); a key or table",
        ),
        ("a = " + "[" * 2_000, "server.toml is not TOML that can be read: it nests too deep"),
        ("seed = " + "9" * 5_000, "server.toml is not TOML: "),
        ("federation." * 2_000 + "a = 1", "server.toml nests more than 32 tables or lists"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_key(text, said):
    with pytest.raises(InputError) as error:
        parse_settings(ServerSettings, text, source="server.toml")
    assert str(error.value).startswith(said)


def test_a_missing_required_key_and_a_missing_file_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="device_id"):
        parse_settings(DeviceSettings, "fleet = 'a:1'", source="device.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(ServerSettings, ServerHome(tmp_path).settings_file)


@pytest.mark.parametrize("model", [ServerSettings, DeviceSettings])
def test_every_setting_is_described(model):
    rows = list(describe(model))
    assert len(rows) > 10
    assert all(description.endswith(".") for _, _, _, description in rows)
