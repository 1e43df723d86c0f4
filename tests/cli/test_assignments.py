"""Settings on the command line: read as TOML where they are, as text where not, and refused like those in a file."""

import pytest
import typer

from aggregator.settings import ServerHome, ServerSettings
from cli.assignments import assignments
from cli.local_server import _with
from fedge.errors import InputError


def test_values_are_toml_where_they_can_be_and_text_otherwise():
    given = ["api.port=8761", "canary=0.5", "on=true", 'names=["a", "b"]', "database=postgresql:///x?host=/run", "empty="]
    assert assignments(given) == {
        "api.port": 8761,
        "canary": 0.5,
        "on": True,
        "names": ["a", "b"],
        "database": "postgresql:///x?host=/run",
        "empty": "",
    }
    assert assignments(None) == {}


@pytest.mark.parametrize("given", ["port", "=1", " =1"])
def test_what_is_no_assignment_is_a_usage_error(given):
    with pytest.raises(typer.BadParameter, match="KEY=VALUE"):
        assignments([given])


def test_a_servers_settings_take_them_in_a_new_home_and_in_one_that_stands(tmp_path):
    home = ServerHome(tmp_path)
    wanted = _with(home, ServerSettings(workload="clinc150"), {"rounds.n_min": 3, "database": "postgresql:///fedge"})
    assert (wanted.workload, wanted.rounds.n_min, wanted.database) == ("clinc150", 3, "postgresql:///fedge")
    assert not home.settings_file.exists()  # init writes it, with everything else
    home.settings_file.write_text("# mine\nconsole_port = 1234\n")
    assert _with(home, home.settings(), {"rounds.n_min": 3}).console_port == 1234
    assert home.settings().rounds.n_min == 3
    assert "# mine" in home.settings_file.read_text()


@pytest.mark.parametrize("values", [{"nonsense": 1}, {"rounds.n_min": 1}, {"rounds.n_min": "many"}])
def test_a_wrong_one_is_refused_and_nothing_is_written(tmp_path, values):
    home = ServerHome(tmp_path)
    home.settings_file.write_text("console_port = 1234\n")
    with pytest.raises(InputError):
        _with(home, home.settings(), values)
    assert home.settings_file.read_text() == "console_port = 1234\n"
