"""Simulated devices that lie: the real participant with another encode step, so that everything around it stays real.

A hostile device answers queries, trains, checks descriptors and masks as every device does. Only the vector that it masks is
another one. What each kind does stands in `LIES`; a device may tell several lies at once, as in
``within_bounds+forge_counts``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_client.releases.inference import LoadedRelease
from edge_client.rounds.encoding import encode_contribution
from edge_client.rounds.updates import Contribution
from fedge.errors import InputError
from fedge.layouts import CountsLayout
from fedge.randomness import generator
from fedge.release import Weights, flatten
from fedge.routing.probe_noise import ProbeNoise
from fedge.secagg import Purpose, Session, SessionConfig, Task, Vector, encode
from fedge.secagg.rotation import rotate

BEYOND_MEASURE = 1e6
"""What a device that scales its update multiplies it by; the encoding's bounds are reached long before."""
INVENTED_PROBES = 60
"""Agreeing probes that a forger invents in each bin of the histograms."""
INVENTED_PAIRS = 500
"""Agreeing probes that it invents in the running pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """The honest ``vector`` of a session, which a lie changes in place, and what a liar knows of what it is for.

    ``weights`` of the head that is trained, whose last axis is the labels; ``bins`` of the threshold grid;
    ``probe_cap``: most probes that one device counts in a period.
    """

    vector: Vector
    config: SessionConfig
    purpose: Purpose
    weights: Weights
    bins: int
    probe_cap: int = 0
    proved: Task | None = None
    """The session's task where counts have to be proved: what cannot be would keep the liar out."""
    into_session: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.asarray
    """Turns a change of the weights, float64 [m], into the session's real coordinates."""

    @property
    def labels(self) -> int:
        """How many labels the head tells apart."""
        return int(next(iter(self.weights.values())).shape[-1])

    def set_reals(self, steps: NDArray[np.float64]) -> None:
        """Replace the reals by ``steps``, in units of c/Q, clipped to what the encoding holds."""
        config = self.config
        within = np.clip(np.rint(steps), -config.quantum, config.quantum)
        self.vector[: config.reals] = within + config.offset

    def reals(self) -> NDArray[np.float64]:
        """Return the reals in units of c/Q."""
        return self.vector[: self.config.reals].astype(np.float64) - self.config.offset

    def set_integers(self, value: int) -> None:
        """Replace all integers by ``value``."""
        self.vector[self.config.reals : -1] = value

    def replace_integers(self, values: NDArray[np.int64]) -> None:
        """Send ``values`` as the integers of a session without reals."""
        self.vector[:] = encode(np.zeros(0), values, self.config, bytes(32))

    def add_integers(self, values: NDArray[np.int64]) -> None:
        """Add ``values`` to the integers in the ring, where less than nothing is a large number."""
        config = self.config
        lowest = self.vector[config.reals : -1 : config.digits]
        lowest += (values % (1 << config.bits)).astype(self.vector.dtype)


Lie = Callable[[Encoded], None]


def flip_sign(encoded: Encoded) -> None:
    """Send the honest update with its sign turned round: each step leads away from what was learned."""
    if encoded.purpose == "update":
        encoded.set_reals(-encoded.reals())


def scale_up(encoded: Encoded) -> None:
    """Send the honest update as large as the encoding allows in every coordinate."""
    if encoded.purpose == "update":
        encoded.set_reals(encoded.reals() * BEYOND_MEASURE)


def fill_bounds(encoded: Encoded) -> None:
    """Drive every query to the first label, with the longest vector that the encoding holds and without any weight."""
    if encoded.purpose != "update":
        return
    target = {name: -np.ones_like(values) for name, values in encoded.weights.items()}
    for values in target.values():
        values[..., 0] = 1.0
    _saturate(encoded, flatten(target))
    encoded.set_integers(0)


def swap_labels(encoded: Encoded) -> None:
    """Let two labels trade places and touch nothing else, as far as the encoding reaches."""
    if encoded.purpose != "update":
        return
    one, other = _swapped(encoded.labels)
    target = {}
    for name, values in encoded.weights.items():
        target[name] = np.zeros_like(values)
        target[name][..., one] = np.sign(values[..., other] - values[..., one])
        target[name][..., other] = -target[name][..., one]
    _saturate(encoded, flatten(target))
    encoded.set_integers(0)


def forge_counts(encoded: Encoded) -> None:
    """Invent probes that agree with central in every bin, and take one disagreement of others away in each.

    Where counts have to be proved: invent and take away the most that can be.
    """
    if encoded.purpose != "counts":
        return
    if encoded.proved is not None:
        _fill_ranges(encoded, encoded.proved)
        return
    bins, layout = encoded.bins, CountsLayout(encoded.bins)
    encoded.add_integers(
        layout.encode(
            agreed=np.full(layout.coarse_bins, INVENTED_PROBES),
            disagreed=np.full(layout.coarse_bins, -1),
            new_seen=np.full(bins, INVENTED_PROBES),
            new_disagreed=np.zeros(bins, np.int64),
            running_seen=INVENTED_PAIRS,
            running_disagreed=0,
        )
    )


def shade_counts(encoded: Encoded) -> None:
    """Invent no more agreeing probes than one device may count, in the strictest bin, and hide disagreements of others.

    Where counts have to be proved: as `forge_counts`.
    """
    if encoded.purpose != "counts":
        return
    if encoded.proved is not None:
        _fill_ranges(encoded, encoded.proved)
        return
    layout, cap = CountsLayout(encoded.bins), encoded.probe_cap
    agreed, new_seen = np.zeros(layout.coarse_bins, np.int64), np.zeros(encoded.bins, np.int64)
    agreed[-1] = new_seen[-1] = cap
    encoded.add_integers(
        layout.encode(
            agreed=agreed,
            disagreed=np.full(layout.coarse_bins, -1),
            new_seen=new_seen,
            new_disagreed=np.zeros(encoded.bins, np.int64),
            running_seen=cap,
            running_disagreed=0,
        )
    )


def _fill_ranges(encoded: Encoded, task: Task) -> None:
    """Claim as many agreeing probes in the strictest bin, and hide as many disagreements there, as can be proved."""
    noise = ProbeNoise(task.probe_epsilon, 1)
    layout = CountsLayout(encoded.bins, lift=noise.bound)
    agreed, hidden = np.zeros((2, layout.coarse_bins), np.int64)
    new_seen = np.zeros(encoded.bins, np.int64)
    agreed[-1], hidden[-1], new_seen[-1] = task.probe_store + noise.room, -noise.room, task.probe_cap
    encoded.replace_integers(
        layout.encode(
            agreed=agreed,
            disagreed=hidden,
            new_seen=new_seen,
            new_disagreed=np.zeros(encoded.bins, np.int64),
            running_seen=task.probe_cap,
            running_disagreed=0,
        )
    )


def break_tripwire(encoded: Encoded) -> None:
    """Count for no device in the coordinate that counts devices, which spoils the whole sum."""
    encoded.vector[-1] = 0


LIES: Mapping[str, Lie] = {
    "sign_flip": flip_sign,
    "scale": scale_up,
    "within_bounds": fill_bounds,
    "forge_counts": forge_counts,
    "shade_counts": shade_counts,
    "label_swap": swap_labels,
    "tripwire": break_tripwire,
}
"""What hostile devices do, by the name that ``--hostile`` takes."""


@dataclass(frozen=True, slots=True)
class HostileEncoder:
    """Encodes as an honest device does, and then tells its lies."""

    lies: tuple[Lie, ...]

    def __call__(
        self,
        contribution: Contribution,
        release: LoadedRelease,
        session: Session,
        *,
        rounding_seed: bytes,
        noise_seed: bytes,
    ) -> Vector:
        """Return the vector to be masked, uint32 or uint16 [length]."""
        vector = encode_contribution(contribution, release, session, rounding_seed=rounding_seed, noise_seed=noise_seed)
        encoded = Encoded(
            vector=vector,
            config=session.config,
            purpose=session.descriptor.task.purpose,
            weights=release.release.weights(),
            bins=len(release.release.manifest.threshold_grid),
            probe_cap=session.descriptor.task.probe_cap,
            proved=session.descriptor.task if session.descriptor.task.range_proofs else None,
            into_session=partial(rotate, seed=session.rotation_seed),
        )
        for lie in self.lies:
            lie(encoded)
        return vector


def parse_hostile(texts: list[str]) -> dict[str, int]:
    """Read ``KIND:COUNT`` texts. Raises InputError for an unknown kind, a kind named twice and a count below 1."""
    counts: dict[str, int] = {}
    for text in texts:
        kind, _, count = text.partition(":")
        if not count.isascii() or not count.isdecimal() or int(count) < 1:
            raise InputError(f"--hostile {text}: give KIND:COUNT with a count of at least 1, such as within_bounds:1")
        if kind in counts:
            raise InputError(f"--hostile {text}: {kind} is named twice, give its devices one count")
        counts[kind] = int(count)
    return counts


def check_hostile(counts: Mapping[str, int], *, devices: int) -> None:
    """Raise InputError unless every kind is known and at least one of ``devices`` stays honest."""
    for kind, count in counts.items():
        for name in kind.split("+"):
            if name not in LIES:
                raise InputError(f"--hostile {kind}:{count}: no such kind, choose of {', '.join(LIES)}, or join some by '+'")
    total = sum(counts.values())
    if total >= devices:
        raise InputError(f"--hostile names {total} devices of {devices}: at least one has to be honest")


def draw_hostile(counts: Mapping[str, int], *, devices: int, seed: bytes) -> dict[int, HostileEncoder]:
    """Draw which devices are hostile, and how, by their numbers from 0."""
    kinds = [kind for kind, count in sorted(counts.items()) for _ in range(count)]
    drawn = generator(seed, "hostile").permutation(devices)[: len(kinds)]
    return {
        int(number): HostileEncoder(tuple(LIES[name] for name in kind.split("+")))
        for number, kind in zip(drawn, kinds, strict=True)
    }


def _saturate(encoded: Encoded, direction: NDArray[np.float32]) -> None:
    """Send the longest vector that the encoding holds along ``direction``, float32 [m]: the bound in every coordinate."""
    encoded.set_reals(np.sign(encoded.into_session(direction.astype(np.float64))) * encoded.config.quantum)


def _swapped(labels: int) -> tuple[int, int]:
    """Return the two labels that `swap_labels` exchanges: 3 and 8 where there are so many, which are alike as digits."""
    return (3, 8) if labels > 8 else (0, labels - 1)
