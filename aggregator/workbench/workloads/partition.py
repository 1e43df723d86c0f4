"""Who owns which query: the devices' part dealt out, by user where the data has users, else unevenly by group.

Out-of-scope queries are dealt to nobody: every device draws them from one shared pool (`stream`).

Dividing labelled rows into parts that keep each label's share. Never looks at the queries themselves.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.workloads.base import Workload
from fedge.errors import InputError
from fedge.randomness import generator


def stratified_parts(
    labels: NDArray[np.int64], shares: Sequence[float], draw: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Indices (ascending) of each of ``len(shares)`` parts; ``shares`` sum to 1. Every row lands in exactly one part.

    Rows are shuffled within each label and the labels laid one after the other; each row then goes to the part that is
    furthest behind its share so far. So every part holds its share of each label within one row, and of the whole as
    well.
    """
    want = np.asarray(shares, dtype=np.float64)
    taken = np.zeros(len(want))
    part = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        for row in draw.permutation(np.flatnonzero(labels == label)):
            chosen = int(np.argmax(want * (taken.sum() + 1.0) - taken))
            taken[chosen] += 1.0
            part[row] = chosen
    return [np.flatnonzero(part == number).astype(np.int64) for number in range(len(want))]


def partition(workload: Workload, devices: int, *, alpha: float, seed: bytes) -> list[NDArray[np.int64]]:
    """Indices into ``workload.devices`` for each device, ascending; every query in scope is dealt exactly once.

    Without users: devices take turns, each drawing the next query's group from its own Dirichlet(``alpha``) mixture
    over the groups that are left (after Hsu et al. 2019, "Measuring the effects of non-identical data distribution",
    who fill one device after the other). Equal shares, unequal content: the smaller ``alpha``, the fewer groups a
    device sees. With users ``alpha`` is not used: users are dealt to devices; where users are fewer, those with the
    most queries spread over several devices.

    Raises InputError for no devices, more devices than queries, or an ``alpha`` that is not a positive number.
    """
    pool = np.flatnonzero(workload.in_scope(workload.devices)).astype(np.int64)
    if devices < 1:
        raise InputError(f"{devices} devices cannot share a workload: ask for at least one")
    if devices > len(pool):
        raise InputError(
            f"workload {workload.name!r} has {len(pool)} queries for {devices} devices: use at most {len(pool)}"
        )
    if not (math.isfinite(alpha) and alpha > 0):
        raise InputError(f"alpha is {alpha}: it must be a positive number (0.3 is uneven, 100 nearly even)")
    draw = generator(seed, "partition", workload.name, devices)
    groups = workload.devices.groups[pool]
    owner = _by_user(groups, devices, draw) if workload.has_users else _by_dirichlet(groups, devices, alpha, draw)
    return [pool[owner == device] for device in range(devices)]


def _by_dirichlet(groups: NDArray[np.int64], devices: int, alpha: float, draw: np.random.Generator) -> NDArray[np.int64]:
    """int64 [n]: the owner of each query."""
    names = np.unique(groups)
    piles = [draw.permutation(np.flatnonzero(groups == name)).tolist() for name in names]
    mixtures = draw.dirichlet(np.full(len(names), alpha), size=devices)
    left = np.array([len(pile) for pile in piles])
    owner = np.empty(len(groups), dtype=np.int64)
    for turn, chance in enumerate(draw.random(len(groups))):
        wanted = mixtures[turn % devices] * (left > 0)
        if not wanted.sum() > 0:  # none of the groups this device cares for is left
            wanted = left.astype(np.float64)
        edges = np.cumsum(wanted)
        # The last edge stands in for a chance that rounding put beyond it.
        pile = min(int(np.searchsorted(edges, chance * edges[-1], side="right")), int(np.flatnonzero(wanted)[-1]))
        owner[piles[pile].pop()] = turn % devices
        left[pile] -= 1
    return owner


def _by_user(groups: NDArray[np.int64], devices: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """int64 [n]: the owner of each query."""
    users = draw.permutation(np.unique(groups)).tolist()
    owner = np.empty(len(groups), dtype=np.int64)
    if len(users) >= devices:
        for turn, user in enumerate(users):
            owner[groups == user] = turn % devices
        return owner
    asked = {user: int((groups == user).sum()) for user in users}
    homes: dict[int, list[int]] = {user: [device] for device, user in enumerate(users)}
    for device in range(len(users), devices):
        busiest = max(users, key=lambda user: asked[user] / len(homes[user]))
        homes[busiest].append(device)
    for user in users:
        mine = draw.permutation(np.flatnonzero(groups == user))
        owner[mine] = np.resize(np.array(homes[user]), len(mine))
    return owner
