"""`fedge sim scenarios` over a record that is there: no run is played, files appear, bad input is one line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from fedge.costs.figures import packaged_text
from fedge.costs.prices import DEFAULT_BOOK
from fedge.costs.profiles import DEFAULT_PROFILES
from fedge.errors import FedgeError
from sim.record import write_record
from tests.sim.test_scenarios import record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    write_record(folder, record())
    return folder


def scenarios(run: Path, *arguments: str | Path) -> str:
    """What is printed; the error that `fedge` prints as one line is raised."""
    words = ["sim", "scenarios", "--run", str(run), "--out", str(run.parent / "out"), *map(str, arguments)]
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_record_is_enough_and_other_prices_and_profiles_move_what_they_price(run: Path, tmp_path: Path) -> None:
    ours = json.loads(scenarios(run, "--recorded-only", "--json"))
    assert ours == json.loads((run.parent / "out" / "scenarios.json").read_text())
    book = (
        packaged_text(DEFAULT_BOOK).replace('version = "2026-08"', 'version = "mine"').replace("_mtok = 1.0", "_mtok = 2.0")
    )
    profiles = packaged_text(DEFAULT_PROFILES).replace("idle_w = { value = 2.7,", "idle_w = { value = 5.4,")
    (tmp_path / "book.toml").write_text(book)
    (tmp_path / "profiles.toml").write_text(profiles)
    given = ("--prices", tmp_path / "book.toml", "--profiles", tmp_path / "profiles.toml")
    theirs = json.loads(scenarios(run, "--recorded-only", "--json", *given))
    assert (ours["price_book"], theirs["price_book"], theirs["run"]["price_book"]) == ("2026-08", "mine", "2026-08")
    everything = [next(row for row in one["scenarios"] if row["key"] == "energy")["rows"][4] for one in (ours, theirs)]
    # All cloud: 700 tokens at 2 USD and 10 at 5 USD a million; idling: 1000 J over 100 queries, then twice that;
    # a busy core adds (6.4 - 5.4) / 4 W in place of (6.4 - 2.7) / 4 W to it, for 30 J of work over 100 queries.
    assert [row[3] for row in everything] == [pytest.approx(0.75), pytest.approx(1.45)]
    assert everything[1][5] - everything[0][5] == pytest.approx(10.0 - 0.3 * (1 - 1.0 / 3.7))
    page = (run.parent / "out" / "scenarios.html").read_text()
    assert "by book mine" in page and "at book 2026-08" in page


def test_tables_are_printed_with_where_the_device_side_loses(run: Path) -> None:
    said = scenarios(run, "--recorded-only")
    assert "The subsidy ends" in said and "Device side:" in said and "scenarios.html" in said


def test_what_cannot_be_used_is_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("surprise = 2")
    for arguments, said in (
        (("--prices", tmp_path / "bad.toml"), "surprise"),
        (("--profiles", tmp_path / "bad.toml"), "surprise"),
        (("--prices", tmp_path / "nowhere.toml"), "nowhere.toml"),
        (("--workload", "home"), "holds a run of digits"),
        ((), "--recorded-only"),  # one round only: too short for runs of its own
        (("--policy", tmp_path / "bad.toml"), "--policy"),
    ):
        with pytest.raises(FedgeError, match=said) as refused:
            scenarios(run, *arguments)
        assert "\n" not in str(refused.value)
    (run / "record.json").write_text("{")
    with pytest.raises(FedgeError, match=r"record\.json"):
        scenarios(run)
