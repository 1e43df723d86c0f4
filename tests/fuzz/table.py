"""What a fuzz target is, and the one contract that all of them hold a decoder to.

A decoder returns, or it raises a FedgeError. Any other exception is a finding, and so is a hang, and memory beyond the limit
that the runner sets.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedge.errors import FedgeError

_scratch = []


def scratch(name: str) -> Path:
    """A folder for a target that reads files. It goes with the process that made it, not with a child of that."""
    _scratch.append(tempfile.TemporaryDirectory(prefix=f"fedge-fuzz-{name}-"))
    return Path(_scratch[-1].name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One decoder under the fuzzer's input. ``seeds`` are inputs that it accepts: real messages, or programs of edits."""

    decode: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    runs: int = 4_000
    """How often the test suite's short run calls it."""
    max_len: int = 4_096

    def run(self, data: bytes) -> bool:
        """Whether the decoder took ``data``. Lets every exception through that the decoder must not raise."""
        try:
            self.decode(data)
        except FedgeError:
            return False
        return True
