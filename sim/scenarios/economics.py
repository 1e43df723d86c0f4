"""The arithmetic that scenarios share: what a query costs in the recorded run, and what each threshold would give. Pure."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedge.costs import DeviceProfile, PriceBook, repriced
from fedge.costs.ledger import DOWNLINK, STANDING, UPLINK, Kind
from sim.record import RunRecord
from sim.scenarios.base import Given

DAYS_A_MONTH = 365.25 / 12
SECONDS_A_MONTH = DAYS_A_MONTH * 86_400
ASKING = frozenset({Kind.ESCALATIONS, Kind.PROBES})
# What grows with the number of queries; training, secure aggregation, releases and the aggregator's cores go by rounds.
PER_QUERY = frozenset({Kind.DEVICE_INFERENCE, Kind.UPLINK_QUERIES, Kind.DOWNLINK_ANSWERS})
WORK = (Kind.DEVICE_INFERENCE, Kind.DEVICE_TRAINING, Kind.DEVICE_SECAGG, Kind.DEVICE_RADIO)
"""What a device's electricity goes into beyond idling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the fleet costs once it runs, by query and by device and day: the recorded run's last round.

    ``asked_share``: of all queries that central is paid for, probes included. ``per_query_usd``: the other costs that go
    with a query; ``rounds_usd``: a device's share of a day's training, secure aggregation, radio and server work;
    ``standing_usd``: idle power and hardware of one device and day. ``queries``: of one device and day.
    """

    queries: float
    asked_share: float
    per_query_usd: float
    rounds_usd: float
    standing_usd: float
    central_usd: float

    @property
    def marginal_usd(self) -> float:
        """One device and day, without what the device costs by standing there."""
        return self.queries * (self.asked_share * self.central_usd + self.per_query_usd) + self.rounds_usd

    @property
    def loaded_usd(self) -> float:
        """One device and day, all of it."""
        return self.marginal_usd + self.standing_usd

    @property
    def all_cloud_usd(self) -> float:
        """The same queries with every one asked."""
        return self.queries * self.central_usd

    def changed(self, *, price: float = 1.0, volume: float = 1.0) -> "Running":
        """With central's price and the number of queries multiplied."""
        return replace(self, central_usd=self.central_usd * price, queries=self.queries * volume)


def running(given: Given) -> Running:
    """The last round of the record at the prices and on the device of ``given``."""
    record, stream = given.record, given.last["stream"]
    queries = stream["queries"]
    usd = repriced(quantities(given, given.profile), given.book, given.profile)
    rest = {kind: amount for kind, amount in usd.items() if kind not in ASKING and kind not in STANDING}
    per_query = sum(amount for kind, amount in rest.items() if kind in PER_QUERY)
    return Running(
        queries=queries / record.devices,
        asked_share=(stream["escalated"] + stream["probes"]) / queries,
        per_query_usd=per_query / queries,
        rounds_usd=(sum(rest.values()) - per_query) / record.devices,
        standing_usd=standing_usd(given.profile, given.book),
        central_usd=given.book.central_price_usd,
    )


def quantities(given: Given, profile: DeviceProfile) -> dict[str, float]:
    """What the last round would have used had every device been a ``profile``: other joules, all else as recorded."""
    used, recorded = dict(given.last["quantities"]), given.recorded
    up, down = (sum(used.get(kind.value, 0.0) for kind in kinds) for kinds in (UPLINK, DOWNLINK))
    ratios = {
        Kind.DEVICE_INFERENCE: profile.inference_j(1) / recorded.inference_j(1),
        Kind.DEVICE_TRAINING: profile.training_j(1) / recorded.training_j(1),
        Kind.DEVICE_SECAGG: profile.secagg_j(1) / recorded.secagg_j(1),
        Kind.DEVICE_IDLE: profile.idle_w / recorded.idle_w,
    }
    if sent := recorded.radio_j(up, down):
        ratios[Kind.DEVICE_RADIO] = profile.radio_j(up, down) / sent
    return {kind: amount * ratios.get(Kind(kind), 1.0) for kind, amount in used.items()}


def standing_usd(profile: DeviceProfile, book: PriceBook) -> float:
    """Idle power and hardware of one device and day."""
    return 86_400 * (profile.idle_w * book.device_electricity_usd_per_j + profile.hardware_usd_per_s)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What every threshold would give, from asking nothing to asking everything; arrays of one length.

    ``asked``: share of the test queries that central answers, ``accuracy``: of what the user gets, ``threshold``: the least
    confidence that is answered on the device.
    """

    asked: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    threshold: NDArray[np.float64]


def curve(record: RunRecord) -> Curve:
    """Ask the least sure queries first; queries of equal confidence go together."""
    columns = record.queries
    order = np.argsort(columns.confidence, kind="stable")
    sure = columns.confidence[order]
    own = (columns.device == columns.truth)[order].astype(np.int64)
    central = (columns.central == columns.truth)[order].astype(np.int64)
    right = np.concatenate([[0], np.cumsum(central - own)]) + own.sum()
    n = len(sure)
    ends = np.concatenate([[True], sure[1:] != sure[:-1], [True]])
    asked = np.arange(n + 1)[ends]
    return Curve(asked / n, right[ends] / n, np.concatenate([sure, [np.inf]])[ends])


def cheapest(points: Curve, target: float) -> int | None:
    """Index of the least share asked at which the accuracy reaches ``target``; None where no threshold reaches it."""
    reached = np.flatnonzero(points.accuracy >= target - 1e-12)
    return int(reached[0]) if len(reached) else None


def worth_asking(confidence: NDArray[np.float64], *, error_usd: float, asking_usd: float) -> NDArray[np.bool_]:
    """Chow's rule (1970): whether the expected cost of the device's error exceeds the price of asking."""
    return (1.0 - confidence) * error_usd > asking_usd
