"""One call to an agent's local API. Loopback, so no proxy applies."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from fedge.errors import FedgeError, InputError

TIMEOUT_S = 60.0


def call(url: str, method: str, path: str, body: object = None) -> dict[str, Any]:
    """The JSON answer. Raises InputError where nobody answers, and FedgeError with the agent's own line where it refuses."""
    _, answer = exchange(url, method, path, body)
    if "error" in answer:
        raise FedgeError(str(answer["error"].get("message", answer["error"])))
    return answer


def exchange(url: str, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    """Status and JSON answer. Raises InputError where no agent answers."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise InputError(f"--url {url}: give the address of a local API, such as http://127.0.0.1:8760")
    connection = HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        sent = None if body is None else json.dumps(body).encode()
        connection.request(method, path, sent, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(f"no agent answers at {url} ({error}): start it with fedge device run") from None
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise InputError(f"what answers at {url} is no agent of fedge")
    return response.status, answer
