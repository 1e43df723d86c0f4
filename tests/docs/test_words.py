"""What knows no truth speaks of agreement with central, never of accuracy."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The server, the device and the commands that operate them have central's answers and no labels that nobody gave them.
KNOW_NO_TRUTH = (
    "aggregator/console",
    "aggregator/rounds",
    "aggregator/fleet",
    "aggregator/central",
    "edge_client",
    "protos",
)
# The gate before a publication judges releases by the server's own part, which has labels.
JUDGED_ON_LABELS = {"aggregation.py", "release_builder.py", "robust_sum.py", "round.py", "state.py", "suspicion.py"}
COMMANDS = ("ask", "device", "devices", "releases", "rounds", "server")


@pytest.mark.parametrize("place", [*KNOW_NO_TRUTH, *(f"cli/{name}.py" for name in COMMANDS)])
def test_what_has_no_labels_never_says_accuracy(place: str) -> None:
    path = ROOT / place
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.suffix in (".py", ".html", ".js", ".proto")]
    if place == "aggregator/rounds":
        files = [one for one in files if one.name not in JUDGED_ON_LABELS]
    assert files
    assert [one.name for one in files if "accura" in one.read_text(encoding="utf-8").lower()] == []
