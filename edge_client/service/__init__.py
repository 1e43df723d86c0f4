"""The agent's local API, on loopback only: asking, batches, corrections, health, metrics, and an OpenAI-compatible adapter.

Built on Starlette, FastAPI's own ground: the routes are few and every error has another shape than FastAPI's, so that its
layer would cost memory and time on a small board for nothing that is used.
"""

from edge_client.service.app import Service, create_app
from edge_client.service.serve import ApiServer, listen

__all__ = ["ApiServer", "Service", "create_app", "listen"]
