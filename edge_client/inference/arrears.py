"""What answers cost while the store could not be written: kept in memory, and booked once there is space again.

Summed by day, so that it stays small however long the disk is full. It is lost where the agent ends before; the device's
ledger then says less than was paid, and the operator's ledger is the one to go by.
"""

from collections.abc import Iterable
from dataclasses import replace
from threading import Lock

from edge_client.store import DeviceStore
from fedge.costs import LedgerEntry

_DAY_S = 86_400.0
_Key = tuple[object, ...]


class Arrears:
    """Ledger rows, and questions set aside, that the store does not know of. Safe to share between threads."""

    def __init__(self) -> None:
        self._rows: dict[_Key, LedgerEntry] = {}
        self._set_aside: dict[int, int] = {}
        self._lock = Lock()

    def owe(self, rows: Iterable[LedgerEntry], *, set_aside: int = 0, at: float = 0.0) -> None:
        """Remember what was used up; and how many questions, whose price was set aside at ``at``, have been settled."""
        with self._lock:
            for row in rows:
                key = int(row.at // _DAY_S), row.payer, row.kind, row.unit, row.price_usd, row.source
                known = self._rows.get(key)
                self._rows[key] = row if known is None else replace(
                    known, quantity=known.quantity + row.quantity, amount_usd=known.amount_usd + row.amount_usd
                )  # fmt: skip
            if set_aside:
                day = int(at // _DAY_S)
                self._set_aside[day] = self._set_aside.get(day, 0) + set_aside

    def book(self, store: DeviceStore) -> None:
        """Write all of it to ``store`` and forget it. Raises StoreUnwritableError, and then nothing is forgotten."""
        with self._lock:
            with store.transaction():
                store.ledger.append(self._rows.values())
                for day, questions in self._set_aside.items():
                    store.allowances.set_aside(-questions, day_of=day * _DAY_S)
                store.count({"storage.recoveries": 1})  # a write, whatever else there is
            self._rows, self._set_aside = {}, {}
