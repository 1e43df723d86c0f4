"""The aggregator's private keys, one a purpose, so that the theft of one does not give away the others.

The release key signs what devices run, the round key signs round descriptors. The key that enrols devices is not here:
it is the authority's (`aggregator.fleet.authority`). Each is a PEM file that only its owner may read.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.errors import InputError
from fedge.identity import TrustRoot
from fedge.release import load_private_key, save_private_key

DEFAULT_CA_NAME = "fedge-enrolment"


@dataclass(frozen=True, slots=True)
class AggregatorKeys:
    """The private keys of one federation."""

    release: Ed25519PrivateKey
    round: Ed25519PrivateKey

    @staticmethod
    def open(folder: Path) -> "AggregatorKeys":
        """The keys in ``folder``, each created (mode 0600) where it is missing. Raises InputError for an unusable file, and
        where the release key is on another machine.
        """
        if has_release_key_elsewhere(folder):
            raise InputError(f"the release key of {folder.parent} is on another machine: see `fedge keys split`")
        return AggregatorKeys(*(load_or_create(folder / f"{name}.pem") for name in ("release", "round")))

    def trust_root(self, authority: Ed25519PublicKey, ca_name: str = DEFAULT_CA_NAME) -> TrustRoot:
        """The public halves with the authority's, as devices pin them."""
        return TrustRoot(ca_name, authority, self.release.public_key(), self.round.public_key())


def has_release_key_elsewhere(folder: Path) -> bool:
    """Return whether `fedge keys split` took the release key out of the folder of the aggregator's keys."""
    return (folder / "release.pub").is_file()


def load_or_create(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in a PEM file, made (mode 0600, its folder 0700) where there is none. Raises InputError."""
    if path.exists():
        return load_private_key(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    save_private_key(path, key)
    return key
