"""The one error whose message a device sends to the aggregator.

It stands apart because settings, the doctor and a SuperNode's short-lived app need it without numpy.
"""

from fedge.errors import FedgeError


class SessionRefused(FedgeError):  # noqa: N818 - an answer to the aggregator, not a fault of the device
    """A request that does not fit the session that this device is in."""
