"""Against other sites that would use a browser's login (CSRF): every request that changes something shows that it is ours.

By where it comes from, as the browser says (Fetch metadata, Origin), and by a token that the console's own pages alone can
read: in the field ``csrf`` of a form, or in the header ``X-CSRF-Token``, which htmx sends. A bearer token needs neither: no
browser adds one by itself.
"""

from urllib.parse import urlsplit

from fastapi import Request
from starlette.exceptions import HTTPException

from aggregator.console.auth.tokens import csrf_token, same
from aggregator.console.auth.viewer import Viewer, current_viewer, require_operator
from aggregator.console.shell.forms import TheForm

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FIELD, HEADER = "csrf", "X-CSRF-Token"


def acts_by_operators_only(request: Request, form: TheForm) -> None:
    """On every route: what changes something takes an operator, and no other site's page. Raises HTTPException."""
    if request.method in SAFE:
        return
    viewer = require_operator(current_viewer(request))
    check_origin(request)
    check_token(request, form, viewer)


def check_token(request: Request, form: TheForm, viewer: Viewer) -> None:
    """The token of a session. Raises HTTPException."""
    if viewer.csrf and not same(form.get(FIELD) or request.headers.get(HEADER, ""), viewer.csrf):
        raise HTTPException(403, "this form is not of your present login: reload the page and try again")


def check_visit(request: Request, form: TheForm, cookie: str) -> None:
    """The token of a browser that is not logged in yet, from its visit's cookie. Raises HTTPException."""
    check_origin(request)
    if not cookie or not same(form.get(FIELD, ""), csrf_token(cookie)):
        raise HTTPException(403, "this form is not of this browser, or its cookies are off: reload the page and try again")


def check_origin(request: Request) -> None:
    """Where the browser says that the request comes from, as far as it says so. Raises HTTPException."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "").lower()
    if site not in ("same-origin", "none") or (origin is not None and urlsplit(origin).netloc.lower() != host):
        raise HTTPException(403, "another site asked for this")
