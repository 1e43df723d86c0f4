"""Giving memory back that only the start needed: freed heap, and the pages of program code that ran once.

Importing onnxruntime, numpy, gRPC and the rest touches about 35 MB of code that an agent never runs again; those pages count
as resident although the file behind them holds the same bytes. They are dropped and come back by themselves, page by page,
where they are needed. Linux only; anywhere else, and wherever anything fails, nothing happens.
"""

import ctypes
import gc
import sys
from pathlib import Path

_MADV_DONTNEED = 4


def settle() -> None:
    """Call once the agent serves, and after a new release was loaded."""
    if not sys.platform.startswith("linux"):
        return
    gc.collect()
    try:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # glibc's
            libc.malloc_trim(0)
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for start, size in _code():
            libc.madvise(start, size, _MADV_DONTNEED)
    except (OSError, AttributeError, ValueError):
        return


def _code() -> list[tuple[int, int]]:
    """Address and size of mapped program code: executable pages are never written, so none differs from its file."""
    found = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[1] == "r-xp" and fields[5].startswith("/"):
            start, end = (int(part, 16) for part in fields[0].split("-"))
            found.append((start, end - start))
    return found
