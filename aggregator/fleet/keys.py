"""The aggregator's three private keys, one a purpose, so that the theft of one does not give away the others.

The release key signs what devices run, the round key signs round descriptors, the authority key signs device certificates.
Each is a PEM file that only its owner may read; in production the authority and release keys belong on another machine.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedge.identity import TrustRoot
from fedge.release import load_private_key, save_private_key

DEFAULT_CA_NAME = "fedge-enrolment"


@dataclass(frozen=True, slots=True)
class AggregatorKeys:
    """The private keys of one federation."""

    release: Ed25519PrivateKey
    round: Ed25519PrivateKey
    authority: Ed25519PrivateKey

    @staticmethod
    def open(folder: Path) -> "AggregatorKeys":
        """The keys in ``folder``, each created (mode 0600) where it is missing. Raises InputError for an unusable file."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return AggregatorKeys(*(_load_or_create(folder / f"{name}.pem") for name in ("release", "round", "authority")))

    def trust_root(self, ca_name: str = DEFAULT_CA_NAME) -> TrustRoot:
        """The public halves, as devices pin them."""
        return TrustRoot(ca_name, self.authority.public_key(), self.release.public_key(), self.round.public_key())


def _load_or_create(path: Path) -> Ed25519PrivateKey:
    if path.exists():
        return load_private_key(path)
    key = Ed25519PrivateKey.generate()
    save_private_key(path, key)
    return key
