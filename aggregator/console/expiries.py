"""When what the server shows to devices runs out unless it is renewed. Reads published files only, never a private key."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from aggregator.settings import ServerHome
from aggregator.store import Database
from fedge.errors import FedgeError
from fedge.identity.tls import certificate_span
from fedge.release import CertificateDocument
from fedge.routing.statement import CertificateStatement


def expiries(home: ServerHome, database: Database) -> Mapping[str, float]:
    """UNIX seconds by name: the servers' TLS certificate (``server``), their authority's (``authority``), the console's own
    (``console``), the newest certificate of a threshold (``threshold``) and TUF's timestamp (``tuf_timestamp``). What is not
    there is left out.
    """
    found: dict[str, float] = {}
    files = {"server": home.tls / "server.crt", "authority": home.tls / "ca.crt"}
    with suppress(FedgeError):
        own = home.settings().console.tls_certificate
        files |= {} if own is None else {"console": own}
    for name, file in files.items():
        with suppress(FedgeError, OSError):
            found[name] = certificate_span(file.read_bytes())[1]
    with suppress(OSError, ValueError, KeyError, TypeError):
        found["tuf_timestamp"] = _tuf_expiry(home.tuf / "repository" / "metadata" / "timestamp.json")
    with suppress(FedgeError):
        found.update(threshold_expiry(database))
    return found


def threshold_expiry(database: Database) -> Mapping[str, float]:
    """As `expiries`, of a database alone."""
    newest = database.published.newest_certificate()
    if newest is None:
        return {}
    statement = CertificateDocument.from_bytes(newest).statement
    return {"threshold": float(CertificateStatement.from_bytes(statement).expires_at)}


def _tuf_expiry(path: Path) -> float:
    return datetime.fromisoformat(json.loads(path.read_text(encoding="utf-8"))["signed"]["expires"]).timestamp()
