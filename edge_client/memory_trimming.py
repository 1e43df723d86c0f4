"""Giving memory back that only the start needed: freed heap, and pages of program files that were read once.

Importing onnxruntime, numpy, gRPC and the rest touches about 50 MB of code and constants that an agent hardly needs again;
those pages count as resident although the file behind them holds the same bytes. They are dropped and come back by
themselves, a few at a time, where they are needed. Linux only; anywhere else, and wherever anything fails, nothing happens.
"""

import ctypes
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

_MADV_DONTNEED = 4


def settle() -> None:
    """Call once the agent serves, now and then, and after a new release was loaded."""
    if not sys.platform.startswith("linux"):
        return
    gc.collect()
    gc.freeze()  # what stands now stays: later collections need not look at it
    try:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # glibc's
            libc.malloc_trim(0)
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for start, size in _unwritten(Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace")):
            libc.madvise(start, size, _MADV_DONTNEED)
    except (OSError, AttributeError, ValueError):
        return


def _unwritten(smaps: str) -> Iterator[tuple[int, int]]:
    """Address and size of the mappings of files that cannot be written and hold no page of their own: each of their pages is
    the file's. (Relocated constants are read-only too, but pages of the process: dropping those would destroy them.)
    """
    start = size = 0
    for line in smaps.splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            fields = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in fields[0].split("-"))
            readable = fields[1] in ("r-xp", "r--p") and len(fields) == 6 and fields[5].startswith("/")
            size = end - start if readable else 0
        elif name == "Anonymous:" and size and rest.split()[0] == "0":
            yield start, size
