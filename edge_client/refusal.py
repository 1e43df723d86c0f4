"""The one error whose words a device sends to the aggregator. Apart, since a SuperNode's app is imported for each message."""

from fedge.errors import FedgeError


class SessionRefused(FedgeError):  # noqa: N818 - an answer to the aggregator, not a fault of the device
    """A request that does not fit the session this device is in."""
