"""Acting, and the record of it: a form repeats the name of what it changes and says why, and both go into the audit first.

In a page: ``{{ confirm(...) }}`` of ``components.html``. In a route that takes ``TheForm`` and ``TheOperator``::

    reason = confirmed(form, target=device_id)
    with audited(console, operator, "device.revoke", target=device_id, reason=reason):
        revoke(...)
"""

from starlette.exceptions import HTTPException

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
