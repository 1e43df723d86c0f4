"""What both ends must agree on about Flower itself: the releases of flwr whose private parts are known to fit.

The embedded node and the aggregator's side of SuperLink use modules of flwr that are not its public interface. Each of them
is one adapter module, and both ask here first. Imports nothing of flwr.
"""

from fedge.errors import InputError

KNOWN = ("1.41", "1.42")
"""Releases (major.minor) that the adapters were tested with."""

FLEET_PREFIX = "/v1/fleet/"
"""Where SuperLink's routes for nodes stand; all others are the server's own business."""

PUBLIC_KEY_HEADER = "flwr-public-key"
TIMESTAMP_HEADER = "flwr-timestamp"
SIGNATURE_HEADER = "flwr-signature"
"""What a node proves itself with: its key (base64 of PEM), a time, and its signature of that time."""


def check_flower(installed: str) -> None:
    """Raises InputError for a release of flwr that the adapters were not tested with."""
    if ".".join(installed.split(".")[:2]) not in KNOWN:
        raise InputError(
            f"flwr {installed} is installed, and fedge's own Flower node was tested with {' and '.join(KNOWN)} only: "
            f"install one of these (pip install 'flwr>={KNOWN[0]},<{_after(KNOWN[-1])}'), or set node.mode = \"supernode\" "
            "on devices, which needs nothing of flwr's inside"
        )


def _after(release: str) -> str:
    major, minor = release.split(".")
    return f"{major}.{int(minor) + 1}"
