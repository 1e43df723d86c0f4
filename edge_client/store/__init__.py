"""What a device remembers, in one SQLite database that never leaves it."""

from edge_client.store.answers import AnswerLog, LoggedAnswer
from edge_client.store.contributions import ContributionEntry, ContributionTable, ContributionTotals
from edge_client.store.database import StoreUnwritableError
from edge_client.store.device_store import DeviceStore, Limits, open_file, open_memory, restore
from edge_client.store.labelled_queries import LabelledQuery, Memory
from edge_client.store.ledger import LedgerTable
from edge_client.store.outbox import OpenQuestion, Outbox, QueuedAnswer, Waiting
from edge_client.store.probes import FateTable, Probe, ProbeSelection, ProbeTable
from edge_client.store.releases import HealthCounts, HealthTable, Installed, InstalledRelease, ReleaseHealth
from edge_client.store.sessions import SessionTable
from edge_client.store.training import Base, Fit, TrainingTable

__all__ = [
    "AnswerLog",
    "Base",
    "ContributionEntry",
    "ContributionTable",
    "ContributionTotals",
    "DeviceStore",
    "FateTable",
    "Fit",
    "HealthCounts",
    "HealthTable",
    "Installed",
    "InstalledRelease",
    "LabelledQuery",
    "LedgerTable",
    "Limits",
    "LoggedAnswer",
    "Memory",
    "OpenQuestion",
    "Outbox",
    "Probe",
    "ProbeSelection",
    "ProbeTable",
    "QueuedAnswer",
    "ReleaseHealth",
    "SessionTable",
    "StoreUnwritableError",
    "TrainingTable",
    "Waiting",
    "open_file",
    "open_memory",
    "restore",
]
