"""The command line as a person meets it: exit codes, one clear line for bad input, JSON where asked for."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from typer.core import TyperArgument
from typer.main import get_command

from aggregator.store import AttemptRow, Database, DropoutRow, RoundRow
from cli.main import app
from fedge.costs import Kind, Payer, entry

ROOT = Path(__file__).resolve().parents[2]


def fedge(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(Path.cwd())}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
        cwd=cwd,
    )


def refusal(*arguments: str | Path) -> str:
    result = fedge(*arguments)
    assert result.returncode == 1, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("fedge: "), result.stderr
    return lines[0]


@pytest.mark.parametrize("command", [(), ("sim",), ("sim", "run"), ("rounds",), ("rounds", "list"), ("costs", "show")])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    result = fedge(*command, "--help")
    assert result.returncode == 0 and "Usage" in result.stdout


def test_usage_errors_exit_with_2() -> None:
    assert fedge("sim", "run", "--workload", "digits").returncode == 2  # --out is missing
    assert fedge("sim", "run", "--out", "x", "--workload", "mnist").returncode == 2
    assert fedge("sim", "run", "--out", "x", "--devices", "many").returncode == 2
    assert fedge("nonsense").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--devices", "4"), "--insecure-small-cohort"),
        (("--dropout", "1.5"), "--dropout 1.5"),
        (("--workload", "csv"), "--data FILE"),
        (("--resume",), "holds no interrupted run"),
        (("--prices", "nowhere.toml"), "nowhere.toml"),
        (("--policy", "nowhere.toml"), "nowhere.toml"),
        (("--policy-baseline",), "--policy-baseline compares"),
        (("--no-constraint",), "--no-constraint"),
    ],
)
def test_bad_parameters_are_one_line_and_exit_1(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refusal("sim", "run", "--out", tmp_path / "out", *arguments)


def test_a_policy_is_checked_and_spelled_out_for_devices(tmp_path: Path) -> None:
    file, spelled = tmp_path / "policy.toml", tmp_path / "spelled.toml"
    file.write_text('[topics.odd]\nrule = "human"\n[budget]\ndaily_usd = 0.5\n')
    shown = fedge("policy", "show", file, "--workload", "digits")
    assert shown.returncode == 0, shown.stderr
    spelled.write_text(shown.stdout)
    document = json.loads(fedge("policy", "show", spelled, "--json").stdout)
    assert document["labels"] == {digit: {"rule": "human"} for digit in "13579"} and document["topics"] == {}
    assert document["budget"] == {"daily_usd": 0.5}
    file.write_text('[labels.ten]\nrule = "human"\n')
    assert "labels.ten" in refusal("policy", "show", file, "--workload", "digits")
    file.write_text("[budget]\nweekly_usd = 1\n")
    assert "budget.weekly_usd" in refusal("policy", "show", file)
    assert "nowhere.toml" in refusal("policy", "show", "nowhere.toml")
    assert "budget.weekly_usd" in refusal("up", "--policy", file, "--home", tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"query,label\nhello,a\n", "text"),
        (b"text,label\nhello,a\nthere,a\nyou,a\nall,a\n", "label"),
        (b"text,label\nhello,a\n,b\n", "line 3"),
        ("text,label\ncaf\u00e9,a\n".encode("latin-1"), "UTF-8"),
        (b"text,label\none,a\ntwo,a\nthree,a\nfour,b\nfive,b\nsix,b\n", "devices"),
        (b"", "text"),
    ],
)
def test_bad_csv_files_each_get_one_clear_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    line = refusal("sim", "run", "--workload", "csv", "--data", path, "--devices", "30", "--out", tmp_path / "out")
    assert said in line and "data.csv" in line


def test_a_bad_price_book_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text('version = "1"\nsurprise = 2\n')
    assert "surprise" in refusal("costs", "show", "--prices", tmp_path / "prices.toml")


def test_the_price_book_gives_a_source_and_a_date_for_every_figure() -> None:
    document = json.loads(fedge("costs", "show", "--json").stdout)
    figures = [*document["figures"].values(), *document["models"].values()]
    figures += [figure for profile in document["profiles"].values() for figure in profile.values()]
    assert len(figures) > 40
    assert all(figure["source"] and figure["date"] for figure in figures)
    assert document["central"]["usd_per_1k"] == pytest.approx(0.75)


def test_rounds_are_listed_and_shown_from_the_database(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path / 'aggregator.sqlite'}") as database:
        row = RoundRow(
            round=1,
            state="finished",
            attempts=1,
            cohort=12,
            survivors=11,
            started=0.0,
            finished=9.0,
            seconds={"unmask": 2.5},
            metrics={
                "refusals": {"MessageError": 2},
                "threshold": 0.9,
                "certified_risk": 0.0421,
                "epsilon": None,
                "usage": {"queries": 9, "local": 7, "degraded": 1, "probes": 2, "inference_mj": 1500, "idle_j": 80},
                "notes": ["a note [of one line]"],
            },
        )
        database.save_round(row)
        paid = [
            entry(Kind.CENTRAL_COMPUTE, 2.0, 0.5, at=9.0, payer=Payer.OPERATOR),
            entry(Kind.DEVICE_IDLE, 1.0, 1e-8, at=9.0, payer=Payer.DEVICE_OWNER),
        ]
        database.add_ledger(1, paid)
        database.add_attempt(
            AttemptRow(
                round=1, attempt=1, purpose="update", outcome="finished", cohort=12, survivors=11, started=0.0, finished=4.0
            )
        )
        database.add_dropouts(
            [
                DropoutRow(
                    round=1,
                    attempt=1,
                    purpose="update",
                    device_id="device-7",
                    stage="query.shares",
                    reason="no answer in time",
                )
            ]
        )
    listed = json.loads(fedge("rounds", "list", "--run", tmp_path, "--json").stdout)
    assert listed == [
        {
            "round": 1,
            "state": "finished",
            "cohort": 12,
            "survivors": 11,
            "started": 0.0,
            "finished": 9.0,
            "seconds": {"unmask": 2.5},
            "release": None,
        }
    ]
    shown = json.loads(fedge("rounds", "show", "1", "--run", tmp_path, "--json").stdout)
    assert shown["dropouts"][0]["device"] == "device-7" and shown["attempts"][0]["survivors"] == 11
    printed = fedge("rounds", "show", "1", "--run", tmp_path).stdout
    lines = {" ".join(line.split()) for line in printed.splitlines()}
    assert "device-7 update 1 query.shares no answer in time" in lines
    assert {"refusals MessageError 2", "threshold 0.9", "certified risk 4.2%", "unmask 2.50"} <= lines
    assert {"central compute 1.000000", "device idle under 0.000001", "together 1.000000"} <= lines
    assert "Devices answered: 9 queries, 7 on the device, 1 in central's place, 2 probes" in lines
    assert {"Electricity, J: inference 1.5, idle 80", "note: a note [of one line]"} <= lines and "epsilon" not in printed
    assert "no round 4" in refusal("rounds", "show", "4", "--run", tmp_path)
    assert "aggregator.sqlite" in refusal("rounds", "list", "--run", tmp_path / "nowhere")


FOREIGN = "[/b] [red]x[/red] :skull: \x1b]0;title\x07 \x9b31m"


def test_text_of_devices_is_shown_as_it_is_and_no_terminal_obeys_it(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path / 'aggregator.sqlite'}") as database:
        metrics = {"refusals": {FOREIGN: 2}, "notes": [FOREIGN]}
        database.save_round(RoundRow(round=1, state="failed", started=0.0, finished=9.0, metrics=metrics))
        session = {"round": 1, "attempt": 1, "purpose": "update"}
        database.add_attempt(
            AttemptRow(**session, outcome="aborted", reason=FOREIGN, cohort=12, survivors=0, started=0.0, finished=4.0)
        )
        database.add_dropouts([DropoutRow(**session, device_id="device-7", stage="query.shares", reason=FOREIGN)])
    shown = fedge("rounds", "show", "1", "--run", tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert " ".join(shown.stdout.split()).count("[/b] [red]x[/red] :skull:") == 4
    assert "\x1b" not in shown.stdout and "\x9b" not in shown.stdout
    assert fedge("rounds", "list", "--run", tmp_path).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_every_command_prints_by_the_one_console_that_reads_no_markup(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name != "console.py":
        assert not re.search(r"(?<!Plain)Console\(|from rich import print|from_markup", text), "use cli.console.PlainConsole"


def arguments_of(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Each positional argument below ``command``, named by its path, with its help."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from arguments_of(below, (*path, name))
    for one in command.params:
        if isinstance(one, TyperArgument):
            yield " ".join((*path, str(one.name))), one.help


def test_every_argument_says_what_it_is() -> None:
    found = dict(arguments_of(get_command(app), ("fedge",)))
    assert "fedge rounds show number" in found and len(found) > 10
    assert [name for name, said in found.items() if not said] == []
