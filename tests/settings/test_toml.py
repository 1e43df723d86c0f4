"""TOML files have a size, and no form of one takes the library long."""

import pytest

from fedge.errors import InputError
from fedge.routing import Policy
from fedge.settings import Settings, read_settings
from fedge.toml import MAX_DOTS, MAX_TOML_BYTES, parse_toml


def test_a_file_over_the_cap_is_refused_before_it_is_read_as_a_whole(tmp_path):
    path = tmp_path / "server.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading all of it would take the memory of any machine
    with pytest.raises(InputError, match="is larger than"):
        read_settings(Settings, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#" * (MAX_TOML_BYTES + 1), "more than"),
        (".".join("a" * 100_000) + " = 1", "dots"),
        (f'x = "{"." * (MAX_DOTS + 1)}"', "dots"),
    ],
)
def test_a_text_that_would_take_long_is_refused(text, said):
    with pytest.raises(InputError, match=said):
        parse_toml(text, source="the file")
    with pytest.raises(InputError, match=said):
        Policy.from_toml(text)


def test_a_long_text_within_the_cap_is_read():
    text = "\n".join(f"key-{number} = 1" for number in range(10_000))
    assert len(parse_toml(text, source="the file")) == 10_000
