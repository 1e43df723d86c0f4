"""How many probes of one device a period's sum may hold: what one liar can invent, and what deductions are made of.

A small cap keeps deductions small, a large one keeps honest probes from waiting. Probes of a device in a period are about
Poisson around their mean, so mean + 2 standard deviations + 1 lets about 99 % of honest devices report all that they have;
who has more reports the rest in later periods.
"""

import math

FIRST_CAP = 16
"""Before anything is known of the traffic."""
LEAST_CAP = 4
MOST_CAP = 512


def probe_cap(answered: int, devices: int, *, rate_ratio: float = 1.0) -> int:
    """Return the cap for the next period, from the probes that central ``answered`` for ``devices`` in the last one.

    ``rate_ratio``: the next period's probe rate over the last one's.
    """
    if devices <= 0 or answered <= 0:
        return FIRST_CAP
    mean = answered / devices * rate_ratio
    return min(max(math.ceil(mean + 2 * math.sqrt(mean) + 1), LEAST_CAP), MOST_CAP)
