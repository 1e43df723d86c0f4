"""The one error whose words a device sends to the aggregator. Apart from the rest, for a SuperNode's short-lived app."""

from fedge.errors import FedgeError


class SessionRefused(FedgeError):  # noqa: N818 - an answer to the aggregator, not a fault of the device
    """A request that does not fit the session this device is in."""
