"""A written settings file says what the models say, and changing a value leaves a person's lines alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.settings import ReleasesSettings, RoundsSettings, ServerSettings
from edge_client.settings import DeviceSettings
from fedge.settings import describe, parse_settings
from fedge.settings_text import as_toml, with_values


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(),
        ServerSettings(data=Path("/a b/ü.csv"), names=("one", "10.0.0.1"), rounds=RoundsSettings(cohort=8, n_min=8)),
        DeviceSettings(device_id="kitchen", fleet="a:1", central="a:2"),
    ],
)
def test_a_written_file_reads_back_as_the_same_settings(settings):
    assert parse_settings(type(settings), as_toml(settings), source="file") == settings


def test_a_written_file_explains_every_setting():
    text = as_toml(ServerSettings()).replace("\n# ", " ")
    for key, _, _, description in describe(ServerSettings):
        assert key.rpartition(".")[2] in text
        assert description in text, key


@given(st.text())
def test_any_text_survives_quoting(name: str):
    settings = ServerSettings(federation=name)
    assert parse_settings(ServerSettings, as_toml(settings), source="file") == settings


def test_a_value_changes_on_its_own_line_and_the_rest_stays():
    text = "# mine\nfleet_port = 1 # why\n\n[rounds]\n# cohort =\n\n[releases]\ncanary_share = 0.5\n"
    changed = with_values(text, {"fleet_port": 9, "rounds.cohort": 4, "rounds.n_min": 2, "console_port": 7})
    assert changed == (
        "# mine\nfleet_port = 9\nconsole_port = 7\n\n[rounds]\ncohort = 4\nn_min = 2\n\n[releases]\ncanary_share = 0.5\n"
    )
    settings = parse_settings(ServerSettings, changed, source="file")
    assert (settings.fleet_port, settings.rounds.n_min, settings.releases.canary_share) == (9, 2, 0.5)


def test_a_table_that_is_missing_is_added():
    changed = with_values("workload = 'csv'\n", {"releases.canary_share": 0.0})
    settings = parse_settings(ServerSettings, changed, source="file")
    assert settings.releases == ReleasesSettings(canary_share=0.0)
