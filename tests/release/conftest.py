import importlib.util
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing here: machines that run tests are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def parts():
    """The module ``parts.py`` beside this file."""
    spec = importlib.util.spec_from_file_location("release_parts", Path(__file__).with_name("parts.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
