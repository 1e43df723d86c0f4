"""The step from a contribution to the vector that is masked."""

from typing import Protocol

from edge_client.releases.inference import LoadedRelease
from edge_client.rounds.updates import Contribution
from fedge.secagg import Session, Vector, encode


class ContributionEncoder(Protocol):
    """Makes the vector of a session from a contribution."""

    def __call__(
        self,
        contribution: Contribution,
        release: LoadedRelease,
        session: Session,
        *,
        rounding_seed: bytes,
        noise_seed: bytes,
    ) -> Vector:
        """Return the vector, uint32 or uint16 [length]."""


def encode_contribution(
    contribution: Contribution, release: LoadedRelease, session: Session, *, rounding_seed: bytes, noise_seed: bytes
) -> Vector:
    """Encode what the device has to say, as `fedge.secagg.codec` does."""
    del release
    reals, integers = contribution.coordinates(session.config, session.rotation_seed)
    return encode(reals, integers, session.config, rounding_seed, noise_seed)
