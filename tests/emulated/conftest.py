"""Lets the tests here import `board` and `device_program`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
