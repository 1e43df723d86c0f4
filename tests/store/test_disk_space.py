"""Writes of the server's store on a disk that is really full: told from other failures, retried, and done exactly once."""

import sqlite3
import threading
from pathlib import Path

import pytest

from aggregator.disk_space import SpaceWaiter, is_disk_full
from aggregator.store import Database, StoreError
from fedge.costs import Kind, LedgerEntry, Payer
from tests.small_disk import fill, small_disk

ROW = LedgerEntry(1.0, Payer.OPERATOR, Kind.PROBES, 1.0, "query", 0.5, 0.5)


def test_a_write_waits_for_space_and_is_done_once(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'disk' / 'a.sqlite'}"
    with small_disk(tmp_path / "disk", size_bytes=4 << 20) as disk, Database.open(url) as database:
        stop, done = threading.Event(), 0
        ballast = fill(disk)
        with pytest.raises(StoreError) as full:
            while done < 100:  # the database may have pages of its own left
                database.add_ledger(1, [ROW] * 500)
                done += 1
        assert is_disk_full(full.value)
        threading.Timer(0.5, ballast.unlink).start()
        SpaceWaiter(stop, wait_s=0.05)(lambda: database.add_ledger(1, [ROW] * 500))
        assert len(database.ledger(1)) == 500 * (done + 1)


def test_told_to_stop_it_waits_no_longer(tmp_path: Path):
    with small_disk(tmp_path / "disk", size_bytes=1 << 20) as disk:
        stop = threading.Event()
        fill(disk)
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(OSError, match="space"):
            SpaceWaiter(stop)(lambda: (disk / "more").write_bytes(bytes(1 << 16)))


def test_other_failures_are_not_waited_for():
    assert not is_disk_full(PermissionError(13, "Permission denied"))
    assert not is_disk_full(sqlite3.OperationalError("database is locked"))
    with pytest.raises(PermissionError):
        SpaceWaiter(threading.Event())(lambda: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
