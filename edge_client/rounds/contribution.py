"""What a device puts into a secure sum, as the real and integer coordinates that both ends agree on.

Four kinds: an update (clipped, weighted change of the weights, with the metrics of its training), counts (probes by
confidence under a candidate release, and the running pairs), health (how a release on the canary does here) and usage (what
the device answered and used). The aggregator sees their sums only. The layouts are `fedge.layouts` and `fedge.usage`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_client.releases.loading import LoadedRelease, ReleaseLoader
from edge_client.rounds.learner import Update, prepare_update, train, training_from_mapping
from edge_client.rounds.probe_counts import probe_counts
from edge_client.store import DeviceStore, HealthCounts, Pairs
from fedge.layouts import HEALTH_CAP, CountsLayout, HealthLayout, UpdateLayout
from fedge.randomness import generator
from fedge.routing.confidence import nll_sums
from fedge.routing.constraint import example_weights
from fedge.routing.policy import Policy
from fedge.secagg import SessionConfig
from fedge.secagg.rotation import padded_length, rotate
from fedge.usage import Usage

_NO_RULES = Policy.default()


@dataclass(frozen=True, slots=True)
class UpdateMetrics:
    """Examples trained on, their summed loss, the NLL of fresh answers by temperature, and whether updates carry noise."""

    examples: int
    loss_sum: float
    nll: NDArray[np.float64]
    noise: bool


@dataclass(frozen=True, slots=True)
class Contribution:
    """``reals`` float32 [r], ``integers`` int64 [i]; ``pairs``, ``health`` and ``usage`` are spent once the masked vector
    has left. An update's reals are its change as trained; what is sent of it follows from the session's clip norm and weight
    cap (`coordinates`).

    ``steps`` of training and ``scored`` queries are what the work cost.
    """

    reals: NDArray[np.float32]
    integers: NDArray[np.int64]
    pairs: Pairs | None
    trained_on: tuple[bytes, ...]
    steps: int
    scored: int
    health: HealthCounts | None = None
    usage: Usage | None = None
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


def make_update(
    store: DeviceStore,
    loader: ReleaseLoader,
    base: LoadedRelease,
    *,
    seed: bytes,
    again: bool = False,
    policy: Policy = _NO_RULES,
) -> Contribution:
    """Train on everything remembered, from the base release's weights; ``policy`` weighs the examples of pinned labels.

    ``again``: an update on this release has left the device before. It must never be masked again, so a tenth of the
    examples, drawn anew, stays out: neither the update nor its weight is the one that left.

    The temperature is fitted on answers that no training has seen yet: what the base says of those is a prediction.
    """
    manifest = base.release.manifest
    training = training_from_mapping(manifest.training)
    index = {label: i for i, label in enumerate(manifest.labels)}
    examples = [example for example in store.memory.all() if example.label in index]
    if again and examples:
        left_out = generator(seed, "left out").choice(len(examples), max(1, len(examples) // 10), replace=False)
        examples = [example for number, example in enumerate(examples) if number not in set(left_out.tolist())]
    predictions = base.session.predict([example.query for example in examples])
    labels = np.array([index[example.label] for example in examples], dtype=np.int64)
    fresh = np.array([example.fresh for example in examples], dtype=bool)
    # "Out of scope" teaches the head nothing: it never answers that, and would only learn a few such queries by heart. The
    # temperature is another matter: how sure the head may be has to be judged on all the traffic there is.
    inside = np.array([example.label != manifest.oos_label for example in examples], dtype=bool)
    weights = example_weights(policy, manifest.labels)
    update = train(
        loader.step_session(base),
        base.release.weights(),
        predictions.embedding[inside],
        labels[inside],
        training=training,
        seed=seed,
        sample_weights=None if weights is None else weights[labels[inside]],
    )
    return Contribution(
        update.delta,
        np.zeros(0, np.int64),
        pairs=None,
        trained_on=tuple(example.content_hash for example in examples),
        steps=update.steps,
        scored=len(examples),
        metrics=UpdateMetrics(
            update.examples,
            update.loss_sum,
            nll_sums(predictions.logits[fresh], labels[fresh]),
            noise=training.noise_multiplier > 0,
        ),
    )


def without_news(update: Contribution) -> Contribution:
    """The update of a device that has nothing to add: zeros that weigh nothing. What the work cost stands."""
    assert update.metrics is not None
    silent = replace(update.metrics, examples=0, loss_sum=0.0, nll=np.zeros_like(update.metrics.nll))
    return replace(update, reals=np.zeros_like(update.reals), trained_on=(), metrics=silent)


def make_counts(
    store: DeviceStore, candidate: LoadedRelease, policy: Policy, *, publication: int, price_usd: float
) -> Contribution:
    """Score the stored probes under the candidate release, and report the running pairs that no sum has carried yet."""
    manifest = candidate.release.manifest
    counts = probe_counts(candidate, store, policy=policy, publication=publication, central_price_usd=price_usd)
    pairs = store.probes.pending_pairs()
    layout = CountsLayout(len(manifest.threshold_grid))
    integers = layout.encode(
        seen=counts.seen,
        disagreed=counts.disagreed,
        new_seen=counts.new_seen,
        new_disagreed=counts.new_disagreed,
        running_seen=pairs.seen,
        running_disagreed=pairs.disagreed,
    )
    return Contribution(np.zeros(0, np.float32), integers, pairs=pairs, trained_on=(), steps=0, scored=len(store.probes))


def make_health(counts: HealthCounts) -> Contribution:
    """Report what no sum has carried yet of a release on the canary; zeros where this device never took it."""
    capped = replace(counts, answered=min(counts.answered, HEALTH_CAP), errors=min(counts.errors, HEALTH_CAP))
    integers = HealthLayout().encode(
        taken=capped.taken, rolled_back=capped.rolled_back, answered=capped.answered, errors=capped.errors
    )
    return Contribution(np.zeros(0, np.float32), integers, pairs=None, trained_on=(), steps=0, scored=0, health=capped)


def make_usage(usage: Usage) -> Contribution:
    """Report what the device answered and used that no sum has carried yet."""
    none = np.zeros(0, np.float32)
    return Contribution(none, usage.encode(), pairs=None, trained_on=(), steps=0, scored=0, usage=usage)
