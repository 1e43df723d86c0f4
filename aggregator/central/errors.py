"""What the fallback service refuses, and why. Each class is one gRPC status; the mapping lives in servicer.py."""

from fedge.errors import FedgeError


class CentralError(FedgeError):
    """Root of the fallback service's errors. The message is sent to the device as it is: one line, no internals."""


class RequestRefusedError(CentralError):
    """The request itself is wrong; sending it again cannot help."""


class DeviceRefusedError(CentralError):
    """The caller is not the device it names, or that device is revoked."""


class KeyReusedError(CentralError):
    """The device used an idempotency key of an earlier question for a different query."""


class DeadlinePassedError(CentralError):
    """The caller's deadline passed before the query was started, so nothing was computed or charged."""


class OverloadedError(CentralError):
    """Too many queries are waiting already."""


class ModelFailedError(CentralError):
    """The strong model failed or gave something that is no distribution over the labels."""


class LedgerFailedError(CentralError):
    """The ledger cannot take up what the answer costs, so the answer is not given; it may be later."""
