"""The operators' pages and HTTP API over what the aggregator stored: read-only, and for this machine alone."""

from aggregator.console.access import is_loopback
from aggregator.console.app import create_app

__all__ = ["create_app", "is_loopback"]
