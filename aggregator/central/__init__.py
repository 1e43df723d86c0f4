"""The fallback service: answers what devices escalate, once for each key, priced and counted by device and purpose."""

from aggregator.central.errors import (
    CentralError,
    DeadlinePassedError,
    DeviceRefusedError,
    KeyReusedError,
    LedgerFailedError,
    ModelFailedError,
    OverloadedError,
    RequestRefusedError,
)
from aggregator.central.ledger_writer import LedgerWriter
from aggregator.central.probe_counts import ProbeCounts, TotalsPolicy, TotalsRefusedError
from aggregator.central.release_scores import ReleaseScores
from aggregator.central.server import CentralServer, ServerOptions, serve, serve_in_thread
from aggregator.central.service import (
    Account,
    AsksUpstream,
    BooksAnswers,
    CentralService,
    CountsProbes,
    Limits,
    Pricing,
    Served,
    StrongModel,
)
from aggregator.central.totals import TotalsClient, serve_totals
from aggregator.fleet.gateway import ServerTls

__all__ = [
    "Account",
    "AsksUpstream",
    "BooksAnswers",
    "CentralError",
    "CentralServer",
    "CentralService",
    "CountsProbes",
    "DeadlinePassedError",
    "DeviceRefusedError",
    "KeyReusedError",
    "LedgerFailedError",
    "LedgerWriter",
    "Limits",
    "ModelFailedError",
    "OverloadedError",
    "Pricing",
    "ProbeCounts",
    "ReleaseScores",
    "RequestRefusedError",
    "Served",
    "ServerOptions",
    "ServerTls",
    "StrongModel",
    "TotalsClient",
    "TotalsPolicy",
    "TotalsRefusedError",
    "serve",
    "serve_in_thread",
    "serve_totals",
]
