"""Remembers answers by (device, idempotency key), so that a repeated request is computed and charged once.

An entry is a future: whoever claims a key first computes, everybody else waits for the same future. Bounded in number
and age; what was forgotten is computed and charged again. Never reads the clock: the time comes in with every call.
"""

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

from aggregator.central.errors import KeyReusedError
from protos.fedge.central.v1.central_pb2 import AnswerResponse

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """The future of one answer, and whether the claimant is the one who must compute it."""

    future: "Future[AnswerResponse]"
    is_first: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    fingerprint: bytes
    claimed_at: float
    future: "Future[AnswerResponse]"


class AnswerMemory:
    """The bounded memory of answers. Safe to use from several threads."""

    def __init__(self, *, max_entries: int, max_age_s: float) -> None:
        self._max_entries = max_entries
        self._max_age_s = max_age_s
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()  # oldest first
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def claim(self, key: Key, fingerprint: bytes, *, now: float) -> Claim:
        """Takes the key, or joins whoever has it. Raises KeyReusedError when it was taken for another query."""
        with self._lock:
            self._forget_old(now)
            entry = self._entries.get(key)
            if entry is not None:
                if entry.fingerprint != fingerprint:
                    raise KeyReusedError(f"idempotency key {key[1]!r} was used for another query: take a new key")
                return Claim(entry.future, is_first=False)
            future: Future[AnswerResponse] = Future()
            self._entries[key] = _Entry(fingerprint, now, future)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
            return Claim(future, is_first=True)

    def release(self, key: Key, claim: Claim) -> None:
        """Gives a claimed key free again, so that a retry computes anew; for the claimant whose computation failed."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.future is claim.future:
                del self._entries[key]

    def _forget_old(self, now: float) -> None:
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if now - entry.claimed_at <= self._max_age_s:
                return
            del self._entries[key]
