"""What a device loads, seen in fresh processes: a Raspberry Pi has no room for what only the server needs."""

import json
import pkgutil
import subprocess
import sys

import pytest

import edge_client

NEVER_ON_A_DEVICE = {
    "opentelemetry",
    "torch",
    "sklearn",
    "scipy",
    "pandas",
    "sqlalchemy",
    "alembic",
    "fastapi",
    "onnxscript",
    "aggregator",
    "sim",
}
ONLY_THE_ROUND_CLIENT = {"flwr"}
ONLY_THE_LOCAL_API = {"starlette", "uvicorn", "prometheus_client"}
MODULES = sorted(m.name for m in pkgutil.walk_packages(edge_client.__path__, "edge_client."))
SERVING = [
    "edge_client.inference.pipeline",
    "edge_client.rounds.learner",
    "edge_client.releases.inference",
    "edge_client.releases.manager",
    "edge_client.inference.escalation",
]


def loaded_by(*modules: str) -> set[str]:
    code = f"import {', '.join(modules)}, json, sys; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout))


def test_all_of_the_device_together_loads_nothing_of_the_servers():
    assert not loaded_by(*MODULES) & NEVER_ON_A_DEVICE


@pytest.mark.parametrize("module", SERVING)
def test_what_answers_queries_loads_neither_the_servers_packages_nor_flower(module):
    assert not loaded_by(module) & (NEVER_ON_A_DEVICE | ONLY_THE_ROUND_CLIENT)


@pytest.mark.parametrize("module", SERVING)
def test_what_answers_queries_needs_no_local_api(module):
    assert not loaded_by(module) & ONLY_THE_LOCAL_API


def test_the_whole_process_serves_without_flower():
    assert not loaded_by("edge_client.daemon", "cli.main", "cli.device_run") & (NEVER_ON_A_DEVICE | ONLY_THE_ROUND_CLIENT)


def test_the_list_of_modules_is_not_empty():
    assert set(SERVING) <= set(MODULES)
