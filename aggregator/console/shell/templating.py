"""Templates: Jinja2, everything escaped, an unknown name an error. ``page`` is how a route answers with HTML."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from aggregator.console.auth.viewer import ANYONE_HERE, Viewer, known_viewer
from aggregator.console.figures.words import counted, words
from aggregator.console.shell.context import console_of
from aggregator.console.shell.static import static
from aggregator.store import StoreError

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Section:
    """An entry of the navigation."""

    title: str
    path: str


# In this order; one appears as soon as the console has a route for its path.
SECTIONS = (
    Section("Overview", "/"),
    Section("Rounds", "/rounds"),
    Section("Devices", "/devices"),
    Section("Releases", "/releases"),
    Section("Costs", "/costs"),
    Section("Security", "/security"),
)


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """``template`` as an answer. It sees ``context`` and what ``base.html`` needs, so a route gives its own values only."""
    console = console_of(request)
    path = request.url.path
    shared = {
        # What this console really has pages for.
        "sections": [section for section in SECTIONS if section.path in console.paths],
        "path": path,
        "section": next((one for one in SECTIONS[1:] if path == one.path or path.startswith(f"{one.path}/")), None)
        or (SECTIONS[0] if path == "/" else None),
        "federation": console.about.get("federation"),
        "not_private": console.not_private,
        "now": console.clock(),
        "viewer": _viewer(request),
    }
    return HTMLResponse(environment().get_template(template).render({**shared, **context}), status_code=status)


def _viewer(request: Request) -> Viewer:
    """Who asks, as pages show it; nobody on the login page, and where the database cannot say."""
    try:
        return known_viewer(request) or ANYONE_HERE
    except StoreError:
        return ANYONE_HERE


@cache
def environment() -> Environment:
    """The templates of ``templates/``, with the filters that pages share."""
    made = Environment(
        loader=PackageLoader("aggregator.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = static
    made.globals["counted"] = counted
    made.globals["MISSING"] = MISSING
    made.filters["iso"] = iso
    made.filters["utc"] = utc
    made.filters["share"] = share
    made.filters["usd"] = usd
    made.filters["small_usd"] = small_usd
    made.filters["thousands"] = thousands
    made.filters["words"] = words
    return made


def share(value: float | None) -> str:
    """A share as percent."""
    return MISSING if value is None else f"{value:.1%}"


def usd(value: float | None) -> str:
    """An amount of money, with as many digits as a small one needs."""
    return MISSING if value is None else f"{value:.2f} USD" if abs(value) >= 10 else f"{value:.4f} USD"


def small_usd(value: float) -> str:
    """An amount of a list of amounts that may be tiny, to a millionth of a dollar."""
    return "under 0.000001" if 0 < value < 1e-6 else f"{value:,.6f}"


def thousands(value: int) -> str:
    """A count, its thousands set apart."""
    return f"{value:,}"


def iso(at: float) -> str:
    """UNIX seconds as a machine reads them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc(at: float) -> str:
    """UNIX seconds as a person reads them, to the minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
