"""Logs of every process: lines for people, or one JSON object a line for machines, under the same logger names.

A JSON line says ``time`` (UTC), ``level``, ``logger``, ``message``, the ``part`` that speaks, and what `context` has bound
around it: round, attempt, purpose, session. Private keys, join strings and passwords in addresses never get into a line of
either form. Configures the root logger and nothing else; never opens a file.
"""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]
FIELDS = ("round", "attempt", "purpose", "session", "phase")
"""What may be bound; anything else is refused, so that no query and no secret is bound by mistake."""

_bound: ContextVar[dict[str, str | int] | None] = ContextVar("fedge_log_context", default=None)
_SECRETS = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL), "[key]"),
    (re.compile(r"fedge1://\S+"), "fedge1://[secret]"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]+):[^\s@/]+@"), r"\1:[secret]@"),
    (re.compile(r"(?i)\b(authorization:\s*\w+|bearer)\s+[^\s\"']+"), r"\1 [secret]"),
)


@contextmanager
def context(**fields: str | int) -> Iterator[None]:
    """Every line that is logged in the block, in this thread, bears these fields."""
    before = _bound.get()
    _bound.set(before or {})
    try:
        bind(**fields)
        yield
    finally:
        _bound.set(before)


def bind(**fields: str | int) -> None:
    """As `context`, until the block of the context around it ends. Without one around it nothing is bound."""
    if unknown := fields.keys() - set(FIELDS):
        raise ValueError(f"{sorted(unknown)} cannot be bound to log lines: there are {', '.join(FIELDS)}")
    if (before := _bound.get()) is not None:
        _bound.set({**before, **fields})


def discreet(text: str) -> str:
    """``text`` without what must not be in a log."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class TextLines(logging.Formatter):
    """For people: level, logger, message."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several where an exception is told."""
        return discreet(super().format(record))


class JsonLines(logging.Formatter):
    """For machines: one JSON object a line."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in it."""
        line: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "part": self._part,
            "message": discreet(record.getMessage()),
            **(_bound.get() or {}),
        }
        if record.exc_info:
            line["exception"] = discreet(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def configure(form: LogFormat, *, part: str) -> None:
    """Send the process's log to standard error in the wanted form, from level INFO on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(part) if form == "json" else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "alembic"):  # a line for each of a round's requests, and two for an unchanged database
        logging.getLogger(chatty).setLevel(logging.WARNING)
