"""Forms as browsers and htmx send them (urlencoded), read with bounds. Files are never taken."""

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Query, Request
from starlette.exceptions import HTTPException

MAX_FORM_BYTES = 64 * 1024
MAX_FIELDS = 200
_URLENCODED = "application/x-www-form-urlencoded"

Form = dict[str, str]


async def read_form(request: Request) -> Form:
    """The fields of a request's body by name, the last of several; none where the body is no form. Raises HTTPException."""
    if not request.headers.get("content-type", "").lower().startswith(_URLENCODED):
        return {}
    body = await _bounded(request)
    try:
        text = body.decode("utf-8")
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise HTTPException(400, "the form cannot be read") from None
    return dict(fields)


async def _bounded(request: Request) -> bytes:
    """The body; kept with the request, so that it may be read again."""
    kept: bytes | None = getattr(request.state, "form_body", None)
    if kept is None:
        parts: list[bytes] = []
        length = 0
        async for part in request.stream():
            length += len(part)
            if length > MAX_FORM_BYTES:
                raise HTTPException(413, f"a form has at most {MAX_FORM_BYTES} bytes")
            parts.append(part)
        kept = request.state.form_body = b"".join(parts)
    return kept


TheForm = Annotated[Form, Depends(read_form)]
MAX_ROUND = 2**31 - 1
MAX_NUMBER = 2**63 - 1
"""Of an event."""

BeforeRound = Annotated[int | None, Query(ge=1, le=MAX_ROUND)]
Start = Annotated[int, Query(ge=0, le=MAX_ROUND)]
"""How many entries of a list come before those that are shown."""
