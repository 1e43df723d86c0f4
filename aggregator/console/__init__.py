"""The operators' pages and HTTP API over what the aggregator stored: who logs in may look, operators may act."""

from aggregator.console.app import create_app
from aggregator.console.auth.policy import is_loopback

__all__ = ["create_app", "is_loopback"]
