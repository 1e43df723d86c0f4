"""For all tests: one thread a library, and no clock in a verdict (Hypothesis's deadlines fail on a busy machine)."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import absl.logging
import pytest
from hypothesis import settings

import aggregator  # noqa: F401 - keeps gRPC to TLS 1.3, which it must do before any test imports gRPC

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

settings.register_profile("fedge", deadline=None)
settings.load_profile("fedge")

# absl (of dp-accounting) remembers the standard error of its import and closes it when uvicorn sets up its logs, unless that
# is the process's own: under pytest it would be the file that captures the output of every test.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

sys.path.append(str(Path(__file__).parent))  # for `chromium`


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser, for the tests of one file: see `chromium`."""
    from chromium import CHROMIUM, launched

    if CHROMIUM is None:
        pytest.skip("no chromium on PATH")
    with launched() as browser:
        yield browser
