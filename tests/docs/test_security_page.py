"""docs/security.md names the tests behind its claims: they must exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_security_page_names_exists():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+|Test\w+)`", page))
    assert len(named) > 20
    defined = set(re.findall(r"^(?:def |class )?(test_\w+|Test\w+)(?=\(| = )", sources, re.MULTILINE))
    assert named <= defined, f"not in tests/: {sorted(named - defined)}"


def test_every_test_that_the_consoles_page_names_exists():
    page = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "console").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 8
    assert named <= set(re.findall(r"^def (test_\w+)\(", sources, re.MULTILINE))
