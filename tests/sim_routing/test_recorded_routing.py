"""Recorded answers: files that cannot be used, division without leaks, federated training equal to pooled training."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedge.errors import InputError
from fedge.randomness import root_seed
from fedge.routing.learned import FEATURES, count
from sim.routing.evaluate import evaluate
from sim.routing.recorded import devices, halves, load
from sim.routing.training import Settings, _cohorts, train_federated, train_pooled

SEED = root_seed(1)
HARD = ("integral", "theorem", "eigenvalue")
EASY = ("weather", "capital", "colour")


def quiet(text: str, done: int, of: int) -> None:
    pass


def lines(count: int = 240) -> list[str]:
    """Hard words are what the weak model fails at: a signal that words show. Every tenth answer is the other way."""
    rows = []
    for number in range(count):
        hard = number % 2 == 0
        word = (HARD if hard else EASY)[number // 2 % 3]
        weak = int(hard == (number % 10 == 0))
        rows.append(f"question {number} about the {word},{weak},1,u{number % 6}")
    rows[3] = rows[3].replace(",1,1,", ",0,0,")
    return ["prompt,weak,strong,user", *rows]


def write(folder: Path, rows: list[str], name: str = "log.csv") -> Path:
    path = folder / name
    content = "\n".join(rows).encode()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: ["prompt,weak,user", *rows[1:]], "no column 'strong'"),
        (lambda rows: [*rows[:5], "a question,often,1,u1", *rows[5:]], "line 6: weak is 'often', which is no number"),
        (lambda rows: [*rows[:5], "a question,nan,1,u1", *rows[5:]], "line 6: weak is 'nan': give a finite number"),
        (lambda rows: [*rows[:5], "a, question,0,1,u1"], "line 6: 5 fields instead of 4"),
        (lambda rows: rows[:40], "39 different prompts: at least 50"),
        (lambda rows: [rows[0], *["the same question,0,1,u1", "the same question,1,1,u1"] * 60], "1 different prompts"),
        (lambda rows: [rows[0], *[f"q {n},{n % 2},1,u1" for n in range(60)]], "strong is 1 in every row: one class only"),
        (lambda rows: [rows[0], *[f"q {n},{n % 2},{n % 2},u1" for n in range(60)]], "weak equals strong in every row"),
        (lambda rows: [rows[0], *[f"q {n},{int(n % 2 == 0)},{int(n % 4 == 1)},u1" for n in range(60)]], "columns swapped"),
        (lambda rows: [""], "is empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, change, said):
    with pytest.raises(InputError) as caught:
        load(write(tmp_path, change(lines())))
    assert said in str(caught.value)


def test_a_prompt_over_several_lines_does_not_shift_the_line_number(tmp_path):
    path = write(tmp_path, ["prompt,weak,strong", '"two\nlines",0,1', "next,no,1"])
    with pytest.raises(InputError, match="line 4: weak is 'no'"):
        load(path)


def test_gzip_and_plain_are_the_same_file_and_contaminated_rows_are_left_out(tmp_path):
    rows = lines()
    rows = [rows[0] + ",contaminated,note", *[row + f",{int(number == 7)},x" for number, row in enumerate(rows[1:])]]
    plain, packed = load(write(tmp_path, rows)), load(write(tmp_path, rows, "log.csv.gz"))
    assert plain.sha256 == packed.sha256 and plain.prompts == packed.prompts
    assert plain.contaminated == 1 and len(plain.prompts) == 239 and plain.unused == ("note",)


def test_equal_prompts_stay_in_one_half_and_every_row_is_in_one(tmp_path):
    rows = lines()
    recorded = load(write(tmp_path, [*rows, *[row.upper() for row in rows[1:80]]]))
    train, held_out = halves(recorded, SEED)
    assert sorted([*train, *held_out]) == list(range(len(recorded.prompts)))
    assert not {recorded.prompts[i].casefold() for i in train} & {recorded.prompts[i].casefold() for i in held_out}


def test_federated_training_equals_ridge_regression_on_all_prompts(tmp_path):
    recorded = load(write(tmp_path, lines()))
    counted, rows = count(recorded.prompts), np.arange(len(recorded.prompts))
    parts, by = devices(recorded, rows, SEED)
    assert by == "user" and len(parts) == 6
    gains, settings = recorded.strong - recorded.weak, Settings(5.0, 2)
    federated = train_federated(counted, gains, parts, settings, seed=SEED, stage=quiet)
    pooled = train_pooled(counted, gains, settings)
    assert np.abs(federated.router.scaling.rarity - pooled.scaling.rarity).max() == 0
    assert np.allclose(federated.router.gains_of(counted), pooled.gains_of(counted), atol=0.01)
    assert federated.router.size_bytes <= 1_000_000
    # Closed form: the dense system of the columns in use.
    matrix = np.zeros((len(rows), FEATURES.buckets + 32))
    scaled = pooled.scaling.apply(counted)
    for number in rows:
        span = slice(scaled.starts[number], scaled.starts[number + 1])
        matrix[number, scaled.columns[span]] = scaled.values[span]
    used = np.flatnonzero(matrix.any(axis=0))
    dense = matrix[:, used]
    ridge = np.diag(np.where(used == used.max(), 0.0, 5.0))
    exact = dense @ np.linalg.solve(dense.T @ dense + ridge, dense.T @ gains)
    assert np.allclose(pooled.gains_of(counted), exact, atol=0.01)


def test_no_device_is_alone_in_a_cohort():
    for number in (2, 57, 128, 129, 300):
        cohorts = list(_cohorts(number))
        assert [i for cohort in cohorts for i in cohort] == list(range(number))
        assert all(2 <= len(cohort) <= 128 for cohort in cohorts)


def test_one_seed_gives_one_result_and_the_signal_is_found(tmp_path):
    path = write(tmp_path, lines())
    first, second = (evaluate(path, seeds=[1], draws=100, stage=quiet) for _ in range(2))
    assert first == second
    routers = first["runs"][0]["routers"]
    assert routers["random"]["apgr"]["value"] == pytest.approx(0.5)
    assert 0.5 < routers["fedge"]["apgr"]["value"] <= routers["oracle"]["apgr"]["value"]
    assert routers["fedge"]["apgr"]["value"] > routers["prompt_length"]["apgr"]["value"]


def fedge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(Path.cwd())},
    )


def test_the_command_prints_json_alone_and_refuses_a_missing_file_in_one_line(tmp_path):
    result = fedge("route", "eval", "--data", write(tmp_path, lines(), "log.csv.gz"), "--draws", 100, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["runs"][0]["training"]["devices"] == 6
    assert "training the router federally" in result.stderr
    missing = fedge("route", "eval", "--data", tmp_path / "none.csv")
    assert missing.returncode == 1 and "none.csv does not exist" in missing.stderr


def test_on_the_mmlu_pairs_the_router_beats_prompt_length():
    folder = os.environ.get("FEDGE_DATA", "")
    path = Path(folder) / "routellm" / "mmlu_pair.csv.gz"
    if not folder or not path.is_file():
        pytest.skip("needs the recorded answers: set FEDGE_DATA to the folder that has routellm")
    from fedge.routing.evaluation import curve
    from sim.routing.baselines import prompt_length

    recorded = load(path)
    assert recorded.contaminated == 5 and len(recorded.prompts) == 14_037
    train, held_out = halves(recorded, SEED)
    counted = count(recorded.prompts)
    parts, _ = devices(recorded, train, SEED)
    gains = recorded.strong - recorded.weak
    trained = train_federated(counted, gains, parts, Settings(10.0, 5), seed=SEED, stage=quiet)
    weak, strong = recorded.weak[held_out], recorded.strong[held_out]
    ours = curve(trained.router.gains_of(counted.take(held_out)), weak, strong).apgr()
    length = curve(prompt_length([recorded.prompts[row] for row in held_out]), weak, strong).apgr()
    assert trained.devices == 57 and ours > length + 0.03 and ours > 0.65
