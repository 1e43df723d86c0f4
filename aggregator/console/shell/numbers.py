"""Numbers in addresses, bounded by what both databases hold: beyond it SQLite and PostgreSQL fail, each in its own way."""

from typing import Annotated

from fastapi import Query

MAX_ROUND = 2**31 - 1
MAX_NUMBER = 2**63 - 1
"""Of an event."""

BeforeRound = Annotated[int | None, Query(ge=1, le=MAX_ROUND)]
Start = Annotated[int, Query(ge=0, le=MAX_ROUND)]
"""How many entries of a list come before those that are shown."""
