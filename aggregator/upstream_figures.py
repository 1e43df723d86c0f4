"""What upstream was asked and what it cost, in a small file of the server's folder: central writes it, /metrics reads it.

The day's spending is in it, so that a restart does not begin the day's budget anew. Never a query, a label or a device.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedge.errors import InputError
from fedge.identity.files import read_file, write_file

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class UpstreamFigures:
    """``outcomes``: questions by what came of them. ``tokens``: by "in" or "out" and whether "billed" or "estimated", as
    "in/billed". ``usd``: all that was spent; ``day_usd`` of it on ``day``, in days (UTC) since 1970.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    usd: float = 0.0
    day: int = 0
    day_usd: float = 0.0

    def plus(self, outcome: str, tokens: Mapping[str, int], usd: float, *, at: float) -> "UpstreamFigures":
        """The figures with one more question, asked at ``at`` (UNIX seconds)."""
        day = int(at // DAY_S)
        return UpstreamFigures(
            outcomes=Counter(self.outcomes) + Counter({outcome: 1}),
            tokens=Counter(self.tokens) + Counter(tokens),
            usd=self.usd + usd,
            day=day,
            day_usd=self.spent_usd(at) + usd,
        )

    def spent_usd(self, at: float) -> float:
        """Spent on the day of ``at``."""
        return self.day_usd if self.day == int(at // DAY_S) else 0.0

    def write(self, path: Path) -> None:
        """Raises InputError."""
        said = {"outcomes": dict(self.outcomes), "tokens": dict(self.tokens)}
        write_file(path, json.dumps({**said, "usd": self.usd, "day": self.day, "day_usd": self.day_usd}).encode())


def read_figures(path: Path) -> UpstreamFigures | None:
    """The figures in a file, or None where there is none yet. Raises InputError for one that cannot be read."""
    if not path.exists():
        return None
    try:
        said = json.loads(read_file(path).decode())
        figures = UpstreamFigures(
            outcomes={str(name): int(count) for name, count in said["outcomes"].items()},
            tokens={str(name): int(count) for name, count in said["tokens"].items()},
            usd=float(said["usd"]),
            day=int(said["day"]),
            day_usd=float(said["day_usd"]),
        )
        if not (math.isfinite(figures.usd) and math.isfinite(figures.day_usd)):
            raise ValueError("not finite")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InputError(f"{path} cannot be read: remove it, and the day's budget for upstream begins anew") from None
    return figures
