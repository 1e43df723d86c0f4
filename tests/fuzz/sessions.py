"""A small cohort with real certificates at each step of a session, and ways to alter a message and sign it again."""

import sys
from functools import cache, partial
from pathlib import Path

from program import Program, edit, edited_bytes

from fedge.identity import issue_certificate
from fedge.identity import verify_certificate as verify_x509
from fedge.secagg import keys
from protos.fedge.secagg.v1 import secagg_pb2 as pb

sys.path.append(str(Path(__file__).parents[1] / "secagg"))

import secagg_cohort
from secagg_cohort import NOW, Cohort, private_key

TASK = secagg_cohort.TASK

SIZE = 4  # of these devices 3 must stay to the end
NAMES = [f"device-{number:02d}" for number in range(1, SIZE + 1)]
FIRST, SECOND, LAST = NAMES[0], NAMES[1], NAMES[-1]


@cache
def certificate(name, key=None):
    key = (key or private_key(name)).public_key()
    return issue_certificate(private_key("authority"), "authority", name, key, not_before=0.0, not_after=10_000.0)


verify_certificate = partial(verify_x509, ca_public_key=private_key("authority").public_key(), now=NOW)
# The cohort's own stand-ins are for tests that need no X.509: here certificates are parsed for real.
secagg_cohort.certificate, secagg_cohort.verify_certificate = certificate, verify_certificate


def cohort_before(stage, **config):
    """The cohort before it answers at ``stage``; its messages stand in ``messages``. The last device does not deliver."""
    cohort = Cohort.open_fresh(SIZE, **config)
    for step in ("share", "mask", "agree"):
        if step == stage:
            break
        cohort.messages = getattr(cohort, step)(cohort.messages, without=[LAST] if step == "mask" else [])
    return cohort


def altered(message, program):
    """The bytes of a copy of ``message`` with its fields edited."""
    copy = type(message).FromString(message.SerializeToString())
    edit(copy, program)
    return copy.SerializeToString()


def altered_body(body, kind, program):
    """Serialized ``body`` with its fields or its bytes edited: in every case something that its signer may have signed."""
    return edited_bytes(body, program) if program.number(4) == 3 else altered(kind.FromString(body), program)


def resigned(signed, kind, program, *, domain, key):
    """A Signed with its body edited and signed again."""
    body = altered_body(signed.body, kind, program)
    return pb.Signed(body=body, signature=keys.sign(key, domain, body))


def outer(message, program):
    """Serialized ``message`` with its fields or its bytes edited; signatures are left as they are."""
    data = message.SerializeToString()
    return altered(message, program) if program.number(2) else edited_bytes(data, program)


def rebundled(data, program, *, key):
    """A SignedBundle with its bundle edited and signed again."""
    signed = pb.SignedBundle.FromString(data)
    signed.bundle = altered_body(signed.bundle, pb.Bundle, program)
    signed.signature = keys.sign(key, "bundle", signed.bundle)
    return signed.SerializeToString()


__all__ = ["FIRST", "LAST", "NAMES", "NOW", "SECOND", "Cohort", "Program", "private_key"]
