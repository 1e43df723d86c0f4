import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def parts():
    """The module ``parts.py`` of the release tests."""
    spec = importlib.util.spec_from_file_location("release_parts", Path(__file__).parent.parent / "release" / "parts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
