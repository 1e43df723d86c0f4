"""Costs: price book, device profiles, the ledger and the accounts drawn from it. Every figure has a source and a date."""

from fedge.costs.accounts import (
    all_cloud_usd,
    break_even_round,
    loaded_usd,
    marginal_usd,
    queries_per_day_to_break_even,
    queries_per_day_to_match_idle,
    usd_per_1k,
)
from fedge.costs.charges import (
    charge_central,
    charge_compute,
    charge_inference,
    charge_line,
    charge_secagg,
    charge_standing,
    charge_training,
    charge_transfer,
    charge_upstream,
)
from fedge.costs.figures import Figure
from fedge.costs.ledger import MODEL, Kind, LedgerEntry, Payer, Totals, entry
from fedge.costs.prices import ModelPrice, PriceBook
from fedge.costs.profiles import MODEL_FIGURES, MODELS, DeviceProfile, load_profiles, profiles_from_toml
from fedge.costs.repricing import repriced, unit_price_usd

__all__ = [
    "MODEL",
    "MODELS",
    "MODEL_FIGURES",
    "DeviceProfile",
    "Figure",
    "Kind",
    "LedgerEntry",
    "ModelPrice",
    "Payer",
    "PriceBook",
    "Totals",
    "all_cloud_usd",
    "break_even_round",
    "charge_central",
    "charge_compute",
    "charge_inference",
    "charge_line",
    "charge_secagg",
    "charge_standing",
    "charge_training",
    "charge_transfer",
    "charge_upstream",
    "entry",
    "load_profiles",
    "loaded_usd",
    "marginal_usd",
    "profiles_from_toml",
    "queries_per_day_to_break_even",
    "queries_per_day_to_match_idle",
    "repriced",
    "unit_price_usd",
    "usd_per_1k",
]
