"""Acting, and the record of it: a form repeats the name of what it changes and says why, and both go into the audit first.

In a page: ``{% call confirm(...) %}`` of ``components.html``. In a route that takes ``TheForm`` and ``TheOperator``::

    reason = confirmed(form, target=device_id)
    with audited(console, operator, "device.revoke", target=device_id, reason=reason):
        revoke(...)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.exceptions import HTTPException

from aggregator.console.auth.viewer import Viewer
from aggregator.console.shell.context import Console
from aggregator.console.shell.forms import Form

MAX_REASON = 500


def confirmed(form: Form, *, target: str) -> str:
    """The reason that was given, where the field ``confirm`` repeats ``target``. Raises HTTPException."""
    if form.get("confirm", "").strip() != target:
        raise HTTPException(422, f"not confirmed: the field confirm must say {target}")
    reason = " ".join(form.get("reason", "").split())
    if not reason:
        raise HTTPException(422, "a reason is missing: it goes into the audit")
    if len(reason) > MAX_REASON:
        raise HTTPException(422, f"the reason has {len(reason)} characters, more than the {MAX_REASON} allowed")
    return reason


@contextmanager
def audited(
    console: Console,
    operator: Viewer,
    action: str,
    *,
    target: str,
    reason: str,
    detail: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Writes down who does what to whom and why, before it is done: see `aggregator.store.audit`. ``detail``: JSON."""
    with console.database.audit.recorded(
        console.clock,
        actor=operator.name,
        role=operator.role.value,
        action=action,
        target=target,
        reason=reason,
        detail=detail,
    ):
        yield
