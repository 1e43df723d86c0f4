"""Summaries in the form that a run writes, with made-up numbers, for the tests of the report."""

import math
from typing import Any

KINDS = (
    "device_inference", "device_training", "device_radio", "device_line", "device_idle", "device_hardware", "uplink_queries",
    "uplink_updates", "uplink_secagg", "downlink_answers", "downlink_secagg", "downlink_releases", "escalations", "probes",
    "upstream_tokens_in", "upstream_tokens_out", "central_compute", "central_energy",
)  # fmt: skip
STANDING = ("device_idle", "device_hardware")
QUERIES = 2000


def entry(number: int) -> dict[str, Any]:
    """Round ``number`` of a run that learns: less and less goes to central."""
    fallback = 0.3 + 0.7 / number
    local = round(QUERIES * (1 - fallback) * 0.9)
    usd = {kind: 0.001 * (1 + index) for index, kind in enumerate(KINDS)}
    usd |= {"escalations": 1.5 * fallback, "probes": 0.15, "device_idle": 0.9, "device_hardware": 1.1}
    usd["uplink_queries"] = 0.0
    marginal = math.fsum(amount for kind, amount in usd.items() if kind not in STANDING)
    total = {"marginal": marginal, "loaded": math.fsum(usd.values()), "all_cloud": 1.5004}
    first = number == 1
    return {
        "round": number,
        "outcome": "finished",
        "attempts": 2 if number == 7 else 1,
        "cohort": 32,
        "survivors": 32 - number % 4,
        "fallback_rate": fallback,
        "accuracy": {"device": 0.2 + 0.6 * (1 - math.exp(-number / 4)), "system": 0.8734, "central": 0.8851},
        "accuracy_in_scope": {"device": 0.2 + 0.7 * (1 - math.exp(-number / 4)), "system": 0.9312, "central": 0.9437},
        "local_disagreement": None if first else 0.03 + 0.01 / number,
        "threshold": None if first else 0.8,
        "certificate": "none" if first else "empirical" if number < 9 else "certified",
        "certified_risk": None if first else max(0.041, 0.3 / number),
        "release_statement": "none" if first else "valid",
        "temperature": 0.63,
        "weights_sha256": "ab" * 32,
        "release": "cd" * 32,
        "training_loss": 3.0 / number,
        "probes": {"local": 110 * (number - 1), "disagreed": 3 * (number - 1), "rate": 0.1},
        "stream": {
            "queries": QUERIES,
            "local": local,
            "escalated": QUERIES - local - 200,
            "probes": 200,
            "redrawn": 0 if first else QUERIES,
            "disagreed": local // 40,
            "local_disagreement": None if first else (local // 40) / local,
            "accuracy": 0.87,
        },
        "usd_per_1k": {name: 1000 * amount / QUERIES for name, amount in total.items()},
        "usd": usd,
        "usd_by_payer": {"device_owner": 2.01, "operator": total["loaded"] - 2.01},
        "usd_total": total,
        "energy_j": {
            "device_inference": 6.4, "device_training": 0.7, "device_radio": 3.3, "device_idle": 2.3e7,
            "central_energy": 1.2e5,
        },
        "bytes": {"up": 4_001_000 + number, "down": 9_000_000, "update": 3_300_000},
        "seconds": {
            "central": 0.5, "queries": 3.1, "measure": 0.06, "check_in": 0.5, "share_keys": 1.9, "masked_input": 2.0,
            "consistency": 0.24, "unmask": 0.85, "publish": 0.09, "certificate": 0.18,
        },
        "notes": ["PURPOSE_UPDATE attempt 1 aborted: 9 of 32 devices left"] if number == 7 else [],
    }  # fmt: skip


def summary(*, rounds: int = 20, **changes: Any) -> dict[str, Any]:
    """The summary of a run of ``rounds`` rounds; ``changes`` replace its keys."""
    whole: dict[str, Any] = {
        "workload": "clinc150",
        "data_sha256": "36923c37" * 8,
        "devices": 100,
        "rounds": [entry(number) for number in range(1, rounds + 1)],
        "break_even_round": 6 if rounds >= 6 else None,
        "break_even_round_loaded": None,
        "secagg": True,
        "seed": 1,
        "version": "0.1.0",
        "parameters": {
            "queries_per_round": 20,
            "cohort": 32,
            "max_risk": 0.05,
            "confidence": 0.95,
            "dropout": 0.0,
            "policy": None,
        },
        "central_model": "minilm-tfidf",
        "price_book": "2026-08",
        "device_profile": "raspberry-pi-4",
        "corrections": 0.02,
        "note": "real queries; a device's queries come again with small random changes once it has asked them all",
        "seconds": {"load": 1.5, "strong_model": 40.25, "device_model": 12.0},
    }
    return whole | changes
