"""Templates: Jinja2, everything escaped, an unknown name an error. ``page`` is how a route answers with HTML.

Amounts as a person says them: time in its fitting unit, how many of what, and what a record's key means.

Static files, read once and served under a name that carries their content's hash: a browser may keep them for ever.

What others wrote stands in ``static/vendor`` with its licence beside it; a test pins each file's SHA-256.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from aggregator.console.auth.dependencies import ANYONE_HERE, Viewer, known_viewer
from aggregator.console.context import console_of
from aggregator.store import StoreError

_UNITS = ((86_400.0, "day"), (3600.0, "hour"), (60.0, "minute"))


def duration(seconds: float) -> str:
    """Whole units, the largest of which it is one exactly or more than one and a half: "1 hour", "80 minutes", "3 days"."""
    for size, unit in _UNITS:
        if seconds == size or seconds > 1.5 * size:
            return counted(round(seconds / size), unit)
    return counted(round(seconds), "second")


def counted(number: int, one: str) -> str:
    """How many of what; thousands are set apart."""
    many = f"{one[:-1]}ies" if one.endswith("y") and one[-2] not in "aeiou" else f"{one}s"
    return f"{number:,} {one if number == 1 else many}"


def words(key: str) -> str:
    """A key of the record as it is read; what a step of the protocol asks for stands after a full stop."""
    return key.removeprefix("query.").replace("_", " ").replace(".", ", ")


KEEP = "public, max-age=31536000, immutable"
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# The name in a template, and the file behind it.
_FILES = {
    "htmx.js": "vendor/htmx-2.0.11.min.js",
    "htmx-sse.js": "vendor/htmx-ext-sse-2.2.4.min.js",
    "uplot.js": "vendor/uplot-1.6.32.iife.min.js",
    "uplot.css": "vendor/uplot-1.6.32.min.css",
    "pico.css": "vendor/pico-2.1.1.min.css",
    "console.css": "console.css",
    "console.js": "console.js",
    "charts.js": "charts.js",
    "icon.svg": "icon.svg",
}
pages = APIRouter()


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is served."""

    content: bytes
    digest: str
    kind: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Every static file by the name that templates use."""
    folder = files("aggregator.console").joinpath("static")
    found = {}
    for name, path in _FILES.items():
        content = folder.joinpath(path).read_bytes()
        kind = _KINDS[name[name.rindex(".") :]]
        found[name] = StaticFile(content, hashlib.sha256(content).hexdigest()[:16], kind)
    return found


def static(name: str) -> str:
    """Where the static file ``name`` is served. Raises KeyError for one that there is not."""
    return f"/static/{static_files()[name].digest}/{name}"


@pages.get("/static/{digest}/{name}", include_in_schema=False)
def static_file(digest: str, name: str) -> Response:
    """One static file, whatever its caller may be: a login page needs its style, too."""
    found = static_files().get(name)
    if found is None or found.digest != digest:
        raise HTTPException(404)
    return Response(found.content, media_type=found.kind, headers={"Cache-Control": KEEP})


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
