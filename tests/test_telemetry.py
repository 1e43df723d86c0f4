"""No package reports to its vendor: the switches are set before onnxruntime and Flower are imported, on every way in."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client.doctor.machine import TRIAL
from fedge.telemetry import TELEMETRY_SWITCHES, disable_telemetry, find_enabled_telemetry

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cli", "benchmarks", "sim", "edge_client", "aggregator")
TALKATIVE = {"onnxruntime", "flwr", "ray", "huggingface_hub"}
OURS = {"fedge", *PACKAGES}

# How a process of ours begins, up to the moment at which it has loaded what it needs; each then creates a session.
ENTRIES = {
    "fedge": "import cli.main, cli.device_run",
    "python -m edge_client": "import edge_client.__main__",
    "SuperNode app": "import edge_client.flower.app",
    "simulation": "import sim.run",
    "server": "import aggregator.processes, aggregator.rounds.coordinator",
    "SuperLink": "import aggregator.rounds.superlink.direct",
    "workbench": "import aggregator.workbench.model_files",
    "benchmarks": "import benchmarks.inference",
    "emulated board": f"import runpy; runpy.run_path({str(ROOT / 'tests/emulated/device_program.py')!r})",
    "doctor": "from edge_client.doctor.machine import Machine, onnxruntime; assert onnxruntime(Machine()).outcome == 'ok'",
}


def files_left_by(code: str, home: Path, **environment: str) -> list[str]:
    """Run ``code`` and a session in a process with an empty home and no variables of ours; list the files it left."""
    bare = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": str(ROOT)}
    program = f"{code}\n{TRIAL}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**bare, "OMP_NUM_THREADS": "1", "FEDGE_DEVICE_HOME": str(home / "device"), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_session_leaves_nothing_in_an_empty_home(entry: str, tmp_path: Path) -> None:
    assert files_left_by(ENTRIES[entry], tmp_path) == []


def test_without_the_switch_onnxruntime_leaves_a_device_id(tmp_path: Path) -> None:
    """The control: the check above can fail."""
    left = files_left_by("import fedge", tmp_path, ORT_DISABLE_TELEMETRY="0")
    if not left:
        pytest.skip("this build of onnxruntime has no telemetry on this platform")
    assert any(name.endswith("deviceid") for name in left)


def test_every_switch_is_set_and_an_explicit_choice_stays() -> None:
    environment = {"ORT_DISABLE_TELEMETRY": "0"}
    disable_telemetry(environment)
    assert environment == {**TELEMETRY_SWITCHES, "ORT_DISABLE_TELEMETRY": "0"}
    assert find_enabled_telemetry(environment) == ["ORT_DISABLE_TELEMETRY"]
    assert find_enabled_telemetry(TELEMETRY_SWITCHES) == []


def imports(path: Path) -> Iterator[str]:
    """The top packages that a file imports, in the order of its text."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in sorted(nodes, key=lambda node: node.lineno):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        yield from (name.partition(".")[0] for name in names)


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_any_module_of_a_package_imports_fedge_first(package: str) -> None:
    assert next(imports(ROOT / package / "__init__.py")) == "fedge"


def test_fedge_sets_the_switches_before_anything_else() -> None:
    statements = ast.parse((ROOT / "fedge" / "__init__.py").read_text()).body
    assert list(imports(ROOT / "fedge" / "__init__.py")) == ["fedge"]
    assert any("disable_telemetry()" in ast.unparse(statement) for statement in statements[:3])


def test_a_program_that_runs_by_its_path_imports_ours_before_what_reports() -> None:
    """A package's ``__init__`` does not run for these."""
    scripts = [path for folder in ("benchmarks", "tests", "deploy") for path in (ROOT / folder).rglob("*.py")]
    scripts = [path for path in scripts if '__name__ == "__main__"' in path.read_text()]
    wrong = []
    for path in scripts:
        order = list(imports(path))
        first = next((i for i, name in enumerate(order) if name in OURS), len(order))
        if TALKATIVE & set(order[:first]):
            wrong.append(str(path.relative_to(ROOT)))
    assert len(scripts) > 5 and wrong == []


DEPLOYMENTS = (
    *("systemd/fedge-device.service", "systemd/fedge-server@.service"),
    *("docker/Dockerfile.device", "docker/Dockerfile.server"),
)


@pytest.mark.parametrize("file", DEPLOYMENTS)
def test_every_deployment_sets_every_switch(file: str) -> None:
    words = (ROOT / "deploy" / file).read_text().replace("Environment=", " ").split()
    assert [f"{name}={value}" for name, value in TELEMETRY_SWITCHES.items() if f"{name}={value}" not in words] == []
