"""For all tests: one thread a library, and no clock in a verdict (Hypothesis's deadlines fail on a busy machine)."""

import os

from hypothesis import settings

import aggregator  # noqa: F401 - keeps gRPC to TLS 1.3, which it must do before any test imports gRPC

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

settings.register_profile("fedge", deadline=None)
settings.load_profile("fedge")
