"""The one root of all errors that fedge raises on purpose.

A message names the offending value and what to do about it. Errors that a person caused end in one line at the edge of the
system (the command line, an HTTP answer, a gRPC status), never in a traceback from the middle.
"""


class FedgeError(Exception):
    """Root of all errors raised on purpose by fedge."""


class InputError(FedgeError):
    """A file, flag or value that a person gave cannot be used. The command line prints it as one line and exits with 1."""


class VerificationError(FedgeError):
    """Something that was received does not verify: a signature, a hash, a certificate, a model file."""
