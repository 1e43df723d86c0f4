"""The policy's page: its example is a policy, its table has every key, and the files beside it fit their workloads."""

import re
from pathlib import Path

import pytest

from aggregator.workbench.workloads import load_workload
from edge_client.service.metrics import _NOT_ASKED
from fedge.randomness import root_seed
from fedge.routing import Policy
from fedge.routing.policy_text import as_document

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "policy.md").read_text(encoding="utf-8")


def keys_of(document: dict) -> set[str]:
    found = set()
    for name, value in document.items():
        if name in ("labels", "topics"):
            found |= {f"{name}.NAME.{key}" for table in value.values() for key in table}
        else:
            found |= {f"{name}.{key}" for key in value} if isinstance(value, dict) else {name}
    return found


def test_the_example_is_a_policy_that_uses_every_key_and_the_table_explains_each():
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    keys = keys_of(as_document(Policy.from_toml(example)))
    explained = {key for line in PAGE.splitlines() if line.startswith("| `") for key in re.findall(r"`([a-zA-Z_.]+)`", line)}
    assert keys <= explained
    assert {key for key in explained if re.match(r"(labels|topics|budget|rate|training)\.", key)} <= keys


@pytest.mark.parametrize("workload", ["home", "digits"])
def test_the_files_beside_the_page_fit_their_workloads(workload):
    policy = Policy.from_toml((DOCS / f"policy-{workload}.toml").read_text(encoding="utf-8"))
    loaded = load_workload(workload, seed=root_seed(1))
    assert policy.for_labels(loaded.topics, loaded.labels).pins


def test_the_reasons_of_degraded_answers_are_named():
    assert all(f'"{reason}"' in PAGE for reason in _NOT_ASKED if reason != "offline")
