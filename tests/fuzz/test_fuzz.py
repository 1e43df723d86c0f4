"""A short run of every fuzz target, and proof that the same runner finds a decoder that is broken."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: it comes for Linux on x86-64 only"
)

RUNNER = Path(__file__).with_name("run.py")


def areas():
    """The areas as the runner names them, in pairs: starting up costs as much as a short run."""
    spec = importlib.util.spec_from_file_location("fuzz_runner", RUNNER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return batched(module.AREAS, 2)


def batched(values, size):
    return [values[at : at + size] for at in range(0, len(values), size)]


def fuzz(*arguments, findings):
    command = [sys.executable, str(RUNNER), *arguments, "--findings", str(findings)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("pair", areas(), ids="+".join)
def test_decoders_return_or_raise_errors_of_fedge_and_nothing_else(pair, tmp_path):
    done = fuzz(*pair, "--hang", "120", findings=tmp_path)  # a hang, even on a machine that is busy with other things
    assert done.returncode == 0, done.stdout + done.stderr[-4_000:]
    assert "nothing found" in done.stdout and "FOUND" not in done.stdout


@pytest.mark.parametrize(
    ("name", "evidence"),
    [("planted.breaks", "KeyError: 'planted'"), ("planted.hangs", "timeout"), ("planted.swells", "MemoryError")],
)
def test_a_broken_decoder_is_found_and_its_input_kept(name, evidence, tmp_path):
    done = fuzz(name, "--hang", "1", findings=tmp_path)
    assert done.returncode == 1 and f"{name}: " in done.stdout and "FOUND something" in done.stdout
    assert evidence in done.stdout
    (kept,) = tmp_path.glob(f"{name}-*")
    assert kept.read_bytes().startswith(b"f")


def test_a_finding_can_be_replayed(tmp_path):
    (tmp_path / "input").write_bytes(b"fed up")
    done = fuzz("planted.breaks", "--replay", str(tmp_path / "input"), findings=tmp_path)
    assert done.returncode == 1 and "KeyError: 'planted'" in done.stderr


def test_a_target_that_lets_no_seed_through_is_a_failure(tmp_path):
    done = fuzz("planted.locked", findings=tmp_path)
    assert done.returncode == 1 and "no seed gets through: planted.locked" in done.stdout


def test_a_misspelt_target_is_named(tmp_path):
    done = fuzz("planted.brakes", findings=tmp_path)
    assert done.returncode == 2 and "'planted.brakes'" in done.stderr
