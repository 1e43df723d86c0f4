"""Which queries are probes: a keyed coin that knows nothing of how hard a query is.

The coin is a keyed hash of the query's content, so a repetition falls the same way and an outsider without the device's key
cannot tell or steer which queries are audited. Rates are nested: a probe at 1 % is one at 10 % too.
Never looks at a confidence, a label or a model: that independence is what the certificate rests on.
"""

import hashlib
import math

from fedge.errors import InputError

RATE_BEFORE_THRESHOLD = 0.30
"""While everything escalates a probe costs nothing extra, it only keeps the query out of training."""

RATE_STEPS: tuple[tuple[int, float], ...] = ((0, 0.10), (4_000, 0.05), (16_000, 0.02), (91_000, 0.01))
"""(weight of the local probes so far, rate from there on): 4,000, 10,000 and 25,000 probes, each with its `probe_weight`."""


def is_probe(content_hash: bytes, device_key: bytes, rate: float) -> bool:
    """True for a share ``rate`` of all contents under this device's key (16 to 64 bytes, secret, of its own)."""
    if not (math.isfinite(rate) and 0 <= rate <= 1):
        raise InputError(f"probe rate {rate!r} must lie in 0..1")
    if not 16 <= len(device_key) <= 64:
        raise InputError(f"a probe key has 16 to 64 bytes, not {len(device_key)}")
    digest = hashlib.blake2b(content_hash, key=device_key, digest_size=8, person=b"fedge/probe").digest()
    return int.from_bytes(digest, "big") < int(rate * 2**64)


def probe_rate(local_probes: int, threshold_published: bool) -> float:
    """The rate for the coming period, from past counts only: 0.30 while everything escalates, then 0.10 down to 0.01.

    ``local_probes`` weighs the fleet's probes that would have been answered on the device, over the whole run.
    """
    if local_probes < 0:
        raise InputError(f"local_probes is a count, not {local_probes}")
    if not threshold_published:
        return RATE_BEFORE_THRESHOLD
    return [rate for start, rate in RATE_STEPS if local_probes >= start][-1]


def probe_weight(local_probes: int) -> int:
    """How many probes one that comes next stands for: 1 at the first rate, 2, 5 and 10 where fewer are drawn.

    So that all local answers weigh the same in the running statement, however many of them were probed.
    """
    return round(RATE_STEPS[0][1] / probe_rate(local_probes, threshold_published=True))
