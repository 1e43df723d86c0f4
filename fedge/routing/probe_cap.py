"""How many probes of one device a period's sum may hold: what one liar can invent, and what deductions are made of.

A small cap keeps deductions small, a large one keeps honest probes from waiting; who has more reports the rest in later
periods. What a device has in a period is about Poisson around its mean, and waiting probes do not pile up as long as the
cap is above the mean, so half a standard deviation above it suffices. A cap that the last period's probes filled tells
nothing about their mean but that it may be higher: the next one is twice as large.
"""

import math

FIRST_CAP = 8
"""Before anything is known of the traffic."""
LEAST_CAP = 2
MOST_CAP = 512
FULL = 0.9
"""The share of a cap that a period's probes fill, on average over devices, where many of them wait."""


def probe_cap(answered: int, devices: int, *, cap: int = FIRST_CAP) -> int:
    """Return the cap for the next period, from the probes of ``devices`` devices that central counted in the last one,
    ``cap`` at most for each.
    """
    if devices <= 0 or answered <= 0:
        return FIRST_CAP
    mean = answered / devices
    if mean >= FULL * cap:
        return min(2 * cap, MOST_CAP)
    return min(max(math.ceil(mean + 0.5 * math.sqrt(mean)), LEAST_CAP), MOST_CAP)
