"""The ledger's writer: what an answer costs is on disk before a device is told the answer.

A thread of its own commits. Answers that come while one commit is on its way share the next one (group commit), so a crowd
of them waits for one fsync and not for one each. Where a commit fails nobody is told those answers: a device that is refused
goes on by its own policy and can be answered later, while one that was told an answer has booked its price, and the
operator's ledger would say less than the devices' do. What was spent all the same, upstream's tokens, is owed to the ledger
and written with the next commit that succeeds.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread

from aggregator.central.errors import LedgerFailedError
from aggregator.central.service import Account, Served
from aggregator.central.upstream.budget import NO_TOKENS

_log = logging.getLogger(__name__)

RETRY_S = 1.0
"""After a commit that failed, no answer is begun for so long: upstream would be paid for what cannot be booked."""

_Entry = tuple[Mapping[Account, Served], "Future[None]"]


class LedgerWriter:
    """Commits what answers cost with ``write``, which returns once that is on disk and raises where it is not.

    ``usd`` says what upstream's tokens cost, for the log. Safe to use from several threads; `close` it.
    """

    def __init__(
        self,
        write: Callable[[Mapping[Account, Served]], None],
        *,
        usd: Callable[[Served], float] = lambda served: 0.0,
        ticks: Callable[[], float] = time.monotonic,
        retry_s: float = RETRY_S,
    ) -> None:
        self._write = write
        self._usd = usd
        self._ticks = ticks
        self._retry_s = retry_s
        self._entries: SimpleQueue[_Entry | None] = SimpleQueue()
        self._owed: dict[Account, Served] = {}
        self._failure: tuple[float, str] | None = None
        self._lock = Lock()
        self._is_closed = False
        self._thread = Thread(target=self._run, name="central-ledger", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise LedgerFailedError where the last commit failed a moment ago, so that nothing is spent in vain."""
        with self._lock:
            if self._failure is not None and self._ticks() < self._failure[0] + self._retry_s:
                raise LedgerFailedError(self._failure[1])

    def book(self, served: Mapping[Account, Served]) -> "Future[None]":
        """Commit what answers cost; the future is done once it is on disk, or ends in LedgerFailedError."""
        booked: Future[None] = Future()
        with self._lock:  # after `close` nobody would write it
            if self._is_closed:
                booked.set_exception(LedgerFailedError("central is stopping"))
            else:
                self._entries.put((served, booked))
        return booked

    def close(self) -> None:
        """Commit what waits, then end the thread."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._entries.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            entry = self._entries.get()
            group: list[_Entry] = []
            while entry is not None:
                group.append(entry)
                if self._entries.empty():
                    break
                entry = self._entries.get()
            is_open = entry is not None
            if group or self._owed:
                self._commit(group)

    def _commit(self, group: Sequence[_Entry]) -> None:
        total = dict(self._owed)
        for served, _ in group:
            for account, one in served.items():
                total[account] = total.get(account, Served()) + one
        try:
            self._write(total)
        except Exception as error:  # whatever it is: those who wait must be told, and the next commit tries again
            refusal = LedgerFailedError(f"central cannot write its ledger and gives no answer until it can: {error}")
            self._note_failure(str(refusal), group, error)
            for _, booked in group:
                booked.set_exception(refusal)
            return
        if self._failure is not None:
            _log.warning("central's ledger is written again: what was owed to it is in it, and answers are given")
        with self._lock:
            self._failure = None
        self._owed = {}
        for _, booked in group:
            booked.set_result(None)

    def _note_failure(self, refusal: str, group: Sequence[_Entry], error: Exception) -> None:
        """Owe the tokens that upstream was paid for; answers that are refused cost nobody anything."""
        for served, _ in group:
            for account, one in served.items():
                if one.tokens != NO_TOKENS:
                    self._owed[account] = self._owed.get(account, Served()) + Served(tokens=one.tokens)
        is_new = self._failure is None
        with self._lock:
            self._failure = (self._ticks(), refusal)
        owed_usd = sum(map(self._usd, self._owed.values()))
        if is_new or (group and owed_usd):
            _log.error(
                "central's ledger cannot be written: %s; devices are refused, %d answers now. %g USD of upstream's tokens "
                "are owed to the ledger: they follow once it can be written, and are missing if central is killed before. "
                "Free some space on the ledger's disk, or see to its database",
                error,
                len(group),
                owed_usd,
            )
