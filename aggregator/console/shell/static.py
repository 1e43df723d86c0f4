"""Static files, read once and served under a name that carries their content's hash: a browser may keep them for ever.

What others wrote stands in ``static/vendor`` with its licence beside it; a test pins each file's SHA-256.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

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
router = APIRouter()


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


@router.get("/static/{digest}/{name}", include_in_schema=False)
def static_file(digest: str, name: str) -> Response:
    """One static file, whatever its caller may be: a login page needs its style, too."""
    found = static_files().get(name)
    if found is None or found.digest != digest:
        raise HTTPException(404)
    return Response(found.content, media_type=found.kind, headers={"Cache-Control": KEEP})
