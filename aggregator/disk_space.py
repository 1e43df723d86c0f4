"""A full disk on the server: telling it from other failures, and waiting until there is space again."""

import errno
import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")

WAIT_S = 1.0
MAX_WAIT_S = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN)
"""The latter two: no room for the index of the write-ahead log, which even a reader makes."""
_POSTGRESQL_FULL = "53100"  # disk_full


class Retry(Protocol):
    """Does a piece of work that may find the disk full: `once`, or a `SpaceWaiter`."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Return what ``work`` gives."""
        ...


def once(work: Callable[[], T]) -> T:
    """Do it once, whatever comes of it."""
    return work()


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether ``error``, or what it was raised from or wraps, says that a disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) in _SQLITE_FULL:
            return True
        if getattr(error, "sqlstate", None) == _POSTGRESQL_FULL:
            return True
        error = getattr(error, "orig", None) or error.__cause__
    return False


class SpaceWaiter:
    """Does a piece of work again and again while the disk is full, with exponential backoff, until ``stop`` is set.

    Each piece must do all or nothing. What a round has computed is kept in memory meanwhile, so that a release that is
    published is stored too, and never half of a round.
    """

    def __init__(self, stop: threading.Event, *, wait_s: float = WAIT_S) -> None:
        self._stop = stop
        self._wait_s = wait_s

    def __call__(self, work: Callable[[], T]) -> T:
        """Return what ``work`` gives. Raises its error where that says nothing of a full disk, or ``stop`` is set."""
        wait_s = self._wait_s
        said = False
        while True:
            try:
                given = work()
            except Exception as error:
                if not is_disk_full(error) or self._stop.is_set():
                    raise
                if not said:
                    _log.error("the disk is full: %s. The round waits; free some space and it goes on by itself", error)
                said = True
            else:
                if said:
                    _log.warning("there is space again: the round goes on")
                return given
            self._stop.wait(wait_s)  # told to stop, it tries once more
            wait_s = min(2 * wait_s, MAX_WAIT_S)
