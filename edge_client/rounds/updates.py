"""What a device puts into a secure sum, as the real and integer coordinates that both ends agree on.

Four kinds: an update (clipped, weighted change of the weights, with the metrics of its training), counts (probes by
confidence under a candidate release, and the running pair), health (how a release on the canary does here) and usage (what
the device answered and used). The aggregator sees their sums only. The layouts are `fedge.layouts` and `fedge.usage`.

A device with nothing to say raises `NothingToReport` before it stands on a roster: it never sends zeros, among which another
device's numbers would stand alone.

Scoring probes under a candidate release: what a device says about them, by confidence.

The candidate never saw a probe in training; what its head would have answered is compared with what central did answer.

What this device did and used that no secure sum has carried yet: from its counters and its ledger, less what was sent.

Counts that left in a masked vector are noted as sent, so that none goes twice. Idle time begins with the first sum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_client.releases.inference import LoadedRelease
from edge_client.rounds.learner import Update, prepare_update, train
from edge_client.store import DeviceStore, Fit, HealthCounts, LabelledQuery, Probe, ProbeSelection
from edge_client.training_policy import training_from_mapping
from fedge.costs import DeviceProfile, Kind, PriceBook, Totals, charge_standing
from fedge.errors import FedgeError
from fedge.layouts import HEALTH_CAP, CountsLayout, HealthLayout, UpdateLayout
from fedge.randomness import generator
from fedge.routing import Policy, Reason, coarse_grid, confidence, histogram, local_candidate, softmax
from fedge.routing.confidence import nll_sums
from fedge.routing.constraint import example_weights
from fedge.routing.probe_noise import ProbeNoise
from fedge.secagg import SessionConfig
from fedge.secagg.rotation import padded_length, rotate
from fedge.usage import NAMES, Usage


@dataclass(frozen=True, slots=True)
class ProbeCounts:
    """Probes per confidence bin, int64: all of a selection over the coarse grid, its fresh ones over the release's grid."""

    seen: NDArray[np.int64]
    disagreed: NDArray[np.int64]
    new_seen: NDArray[np.int64]
    new_disagreed: NDArray[np.int64]


def count_probes(
    candidate: LoadedRelease, selection: ProbeSelection, *, policy: Policy, central_price_usd: float
) -> ProbeCounts:
    """Count a selection of probes under ``candidate``; the ones that are fresh are the new ones."""
    grid = candidate.release.manifest.threshold_grid
    sure, disagreed, eligible = _score(candidate, (*selection.fresh, *selection.old), policy, central_price_usd)
    fresh = slice(0, len(selection.fresh))
    pooled = histogram(sure, disagreed, eligible=eligible, grid=coarse_grid(grid))
    return ProbeCounts(*pooled, *histogram(sure[fresh], disagreed[fresh], eligible=eligible[fresh], grid=grid))


def _score(
    candidate: LoadedRelease, probes: Sequence[Probe], policy: Policy, price_usd: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return each probe's confidence, whether it disagreed with central, and whether a threshold may keep it local, [n]."""
    manifest = candidate.release.manifest
    logits = candidate.session.predict([probe.query for probe in probes]).logits
    predicted = [manifest.labels[index] for index in logits.argmax(axis=1)]
    sure = confidence(softmax(logits, manifest.temperature), manifest.confidence)
    disagreed = np.array([label != probe.central_label for label, probe in zip(predicted, probes, strict=True)], dtype=bool)
    eligible = np.array(
        [
            local_candidate(
                label=label,
                confidence=float(value),
                policy=policy,
                central_price_usd=price_usd,
                oos_label=manifest.oos_label,
            )
            for label, value in zip(predicted, sure, strict=True)
        ],
        dtype=bool,
    )
    return sure, disagreed, eligible


_SENT = "usage."
_SINCE = "usage.since"


def pending_usage(store: DeviceStore, book: PriceBook, profile: DeviceProfile, *, now: float) -> Usage:
    """What the next sum may carry."""
    counters = store.counters()
    sent = Usage(**{name: counters.get(_SENT + name, 0) for name in NAMES})
    seconds = max(0.0, now - counters[_SINCE]) if _SINCE in counters else 0.0
    idle, hardware = charge_standing(book, profile, seconds=seconds, at=now)
    standing = Usage(idle_j=int(idle.quantity), hardware_microusd=int(hardware.amount_usd * 1e6))
    return ((_ever(counters, store.ledger.lifetime()) - sent) + standing).capped()


def mark_usage_sent(store: DeviceStore, usage: Usage, *, now: float) -> None:
    """Note that ``usage`` is leaving in a masked vector. Idle time and hardware are counted from ``now`` on."""
    kept = {_SENT + name: getattr(usage, name) for name in NAMES if name not in ("idle_j", "hardware_microusd")}
    store.count({**kept, _SINCE: int(now) - store.counters().get(_SINCE, 0)})


def _ever(counters: dict[str, int], totals: Totals) -> Usage:
    """All that the device ever did, but for being there."""
    answered: dict[tuple[str, str], int] = {}
    for name, count in counters.items():
        kind, _, rest = name.partition(".")
        by, _, reason = rest.partition(".")
        if kind == "answered" and by != "human":  # what policy leaves to a person is answered by nobody here
            answered[by, reason] = count

    def millijoules(kind: Kind) -> int:
        return math.floor(totals.quantity(kind) * 1000)

    return Usage(
        queries=sum(answered.values()),
        local=sum(count for (by, _), count in answered.items() if by == "device"),
        degraded=counters.get("degraded", 0),
        probes=sum(count for (by, reason), count in answered.items() if by != "device" and reason == Reason.PROBE),
        inference_mj=millijoules(Kind.DEVICE_INFERENCE),
        training_mj=millijoules(Kind.DEVICE_TRAINING),
        secagg_mj=millijoules(Kind.DEVICE_SECAGG),
        radio_mj=millijoules(Kind.DEVICE_RADIO),
    )


_NO_RULES = Policy.default()


@dataclass(frozen=True, slots=True)
class UpdateMetrics:
    """Examples trained on, their summed loss, the NLL of fresh answers by temperature, and whether updates carry noise."""

    examples: int
    loss_sum: float
    nll: NDArray[np.float64]
    noise: bool


class NothingToReport(FedgeError):  # noqa: N818 - an answer to the aggregator, not a fault
    """The device has nothing unspent for a session's purpose and period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """``reals`` float32 [r], ``integers`` int64 [i], and what is spent once the masked vector has left.

    An update's reals are its change as trained; what is sent of it follows from the session's clip norm and weight cap
    (`coordinates`).

    ``steps`` of training and ``scored`` queries are what the work cost.
    """

    reals: NDArray[np.float32]
    integers: NDArray[np.int64]
    trained_on: tuple[bytes, ...] = ()
    probes: ProbeSelection | None = None
    health: HealthCounts | None = None
    usage: Usage | None = None
    fit: Fit | None = None
    """How the base did on the examples before training; noted once the masked vector has left."""
    largest_share: float = 0.0
    """The largest share of one example in the update."""
    kept: float = 1.0
    """The part of its own change that the most limited example kept, so that it holds no larger share."""
    steps: int = 0
    scored: int = 0
    metrics: UpdateMetrics | None = None
    """What an update reports beside its change; None for the other kinds."""

    @property
    def coordinates_sent(self) -> tuple[int, int]:
        """How many reals and integers the vector has in a session."""
        if self.metrics is None:
            return len(self.reals), len(self.integers)
        if self.metrics.noise:
            return len(self.reals), 0
        return padded_length(len(self.reals)), UpdateLayout().integers

    def coordinates(self, config: SessionConfig, rotation: bytes) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the reals and integers of the vector as the accepted descriptor wants them.

        An update is clipped to the session's C, weighted under its W and rotated by the seed ``rotation``. With noise every
        device weighs the same, nothing else is reported, and the vector stays unrotated.
        """
        metrics = self.metrics
        if metrics is None:
            return self.reals, self.integers
        update = Update(self.reals, metrics.examples, metrics.loss_sum, self.steps)
        if metrics.noise:
            # What is exact would tell more than the noise hides: no counts, no losses, and a weight that depends on nothing.
            return prepare_update(update, clip_norm=config.clip_norm, weight_cap=1).vector, np.zeros(0, np.int64)
        prepared = prepare_update(update, clip_norm=config.clip_norm, weight_cap=config.weight_cap)
        integers = UpdateLayout().encode(
            weight=min(metrics.examples, config.weight_cap),
            examples=metrics.examples,
            loss_sum=metrics.loss_sum,
            nll=metrics.nll,
            norm=prepared.norm,
        )
        return rotate(prepared.vector, rotation), integers


NO_REALS = np.zeros(0, np.float32)


def make_update(
    store: DeviceStore,
    base: LoadedRelease,
    *,
    seed: bytes,
    now: float = 0.0,
    max_share: float = 1.0,
    again: bool = False,
    policy: Policy = _NO_RULES,
) -> Contribution:
    """Train on everything remembered, from the base release's weights; ``policy`` weighs the examples of pinned labels.

    An update needs news: without an example that no update was trained on before, whatever release is trained, the device
    would say the same once more, and an aggregator could sum it with the device and without until the rest cancels out.
    ``again``: an update on this release has left the device before. A tenth of the examples that were in it, drawn anew,
    stays out then, so that two sums do not differ by the news alone.

    The base gives embeddings alone: they are normalized here, and head, loss and gradient are the device's own code. So no
    encoder makes an example count for more than another. Raises InputError for an encoder whose embeddings do not fit.

    The temperature is fitted on answers that no training has seen yet: what the base says of those is a prediction.
    Raises NothingToReport where there is nothing to train on.
    """
    manifest = base.release.manifest
    architecture, training, head = manifest.trained(), training_from_mapping(manifest.training), base.release.weights()
    index = {label: i for i, label in enumerate(manifest.labels)}
    examples = [example for example in store.memory.all() if example.label in index]
    if examples and not any(example.fresh for example in examples):
        raise NothingToReport("nothing was learned since the last update")
    if again:
        examples = _leave_out(examples, seed=seed)
    embeddings = architecture.normalize(base.session.predict([example.query for example in examples]).embedding)
    logits = architecture.logits(head, embeddings)
    labels = np.array([index[example.label] for example in examples], dtype=np.int64)
    fresh = np.array([example.fresh for example in examples], dtype=bool)
    # "Out of scope" teaches the head nothing: it never answers that, and would only learn a few such queries by heart. The
    # temperature is another matter: how sure the head may be has to be judged on all the traffic there is.
    inside = np.array([example.label != manifest.oos_label for example in examples], dtype=bool)
    if not inside.any():
        raise NothingToReport("nothing to train on is remembered")
    weights = example_weights(policy, manifest.labels)
    update = train(
        architecture,
        head,
        embeddings[inside],
        labels[inside],
        training=training,
        seed=seed,
        max_share=max_share,
        sample_weights=None if weights is None else weights[labels[inside]],
    )
    return Contribution(
        reals=update.delta,
        integers=np.zeros(0, np.int64),
        trained_on=tuple(example.content_hash for example in examples),
        steps=update.steps,
        scored=len(examples),
        fit=_fit(manifest.encoder_sha256, logits[inside], labels[inside], at=now),
        largest_share=update.largest_share,
        kept=update.kept,
        metrics=UpdateMetrics(
            update.examples,
            update.loss_sum,
            nll_sums(logits[fresh], labels[fresh]),
            noise=training.noise_multiplier > 0,
        ),
    )


def _leave_out(examples: list[LabelledQuery], *, seed: bytes) -> list[LabelledQuery]:
    """Return the examples without a tenth of the used ones, at least one where there is any."""
    used = [number for number, example in enumerate(examples) if not example.fresh]
    if not used:
        return examples
    dropped = set(generator(seed, "left out").choice(used, max(1, len(used) // 10), replace=False).tolist())
    return [example for number, example in enumerate(examples) if number not in dropped]


def _fit(encoder_sha256: str, logits: NDArray[np.float32], labels: NDArray[np.int64], *, at: float) -> Fit | None:
    if not len(labels):
        return None
    right = softmax(logits)[np.arange(len(labels)), labels]
    return Fit(encoder_sha256, len(labels), float((1 - right).sum()), at)


def make_counts(
    candidate: LoadedRelease,
    selection: ProbeSelection,
    policy: Policy,
    *,
    noise: ProbeNoise,
    noise_seed: bytes,
    price_usd: float,
) -> Contribution:
    """Score a selection of probes under the candidate release, with noise on what stands in more than one sum.

    ``noise_seed`` (32 bytes) must be secret and used once.
    """
    layout = CountsLayout(len(candidate.release.manifest.threshold_grid), lift=noise.bound)
    counts = count_probes(candidate, selection, policy=policy, central_price_usd=price_usd)
    agreed_noise, disagreed_noise = noise.sample(noise_seed, 2 * layout.coarse_bins).reshape(2, -1)
    running_seen, running_disagreed = selection.running_pair
    integers = layout.encode(
        agreed=counts.seen - counts.disagreed + agreed_noise,
        disagreed=counts.disagreed + disagreed_noise,
        new_seen=counts.new_seen,
        new_disagreed=counts.new_disagreed,
        running_seen=running_seen,
        running_disagreed=running_disagreed,
    )
    scored = len(selection.fresh) + len(selection.old)
    return Contribution(reals=NO_REALS, integers=integers, probes=selection, scored=scored)


def make_health(counts: HealthCounts) -> Contribution:
    """Report what no sum has carried yet of a release on the canary. Raises NothingToReport where there is nothing new."""
    capped = replace(counts, answered=min(counts.answered, HEALTH_CAP), errors=min(counts.errors, HEALTH_CAP))
    if not (capped.taken or capped.rolled_back or capped.answered or capped.errors):
        raise NothingToReport("this device did not take the release on the canary, or has no news of it")
    integers = HealthLayout().encode(
        taken=capped.taken, rolled_back=capped.rolled_back, answered=capped.answered, errors=capped.errors
    )
    return Contribution(reals=NO_REALS, integers=integers, health=capped)


def make_usage(usage: Usage) -> Contribution:
    """Report what the device answered and used that no sum has carried yet. Raises NothingToReport without a query.

    The standing costs of an idle device say nothing and hide nobody: they wait for its next query.
    """
    if not usage.queries:
        raise NothingToReport("no query was answered since the last sum")
    return Contribution(reals=NO_REALS, integers=usage.encode(), usage=usage)
