"""docs/security.md names the tests behind its claims: they must exist."""

import re
from pathlib import Path

from benchmarks.attacks.runner import ATTACKS

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_security_page_names_exists():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+|Test\w+)`", page))
    assert len(named) > 20
    defined = set(re.findall(r"^(?:def |class )?(test_\w+|Test\w+)(?=\(| = )", sources, re.MULTILINE))
    assert named <= defined, f"not in tests/: {sorted(named - defined)}"


def test_every_claim_about_a_party_names_a_test_or_an_attack_that_exists():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    parties = page.partition("\n## Who might do what to you, and what happens\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in parties.splitlines() if row.startswith("| ")]
    attacks = {attack.__name__ for attack in ATTACKS}
    claims = 0
    for table in _tables(rows):
        head, body = table
        if head[-1] == "shown by":
            for cells in body:
                named = re.findall(r"`([^`]+)`", cells[-1])
                known = [name for name in named if name.startswith(("test_", "Test", "tests/")) or name in attacks]
                assert known or cells[-1].startswith("same"), f"no test: {cells[0]}"
                claims += 1
        elif head[0] == "attack":
            for cells in body:
                assert re.findall(r"`(\w+)`", cells[0])[0] in attacks, cells[0]
    assert claims > 40


def test_every_path_in_the_repository_that_the_security_page_names_exists():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:tests|benchmarks|fedge|docs)/[\w/.-]+)`", page))
    assert len(named) > 8
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def _tables(rows):
    """Tables of markdown rows, each with its head; a table begins where a row's cells are the usual heads."""
    heads = {"what it might do", "attack", "what the device does", "attack, seed 1", "`--hostile`", "Package"}
    found = []
    for cells in rows:
        if cells[0] in heads:
            found.append((cells, []))
        elif found and not set(cells[0]) <= {"-"}:
            found[-1][1].append(cells)
    return found


def test_every_test_that_the_consoles_page_names_exists():
    page = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "console").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 8
    assert named <= set(re.findall(r"^def (test_\w+)\(", sources, re.MULTILINE))
