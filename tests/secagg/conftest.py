"""Lets the tests here import `secagg_cohort`, the cohort that they drive."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.append(str(Path(__file__).parent))

# How long an example takes says nothing here: machines that run tests are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
