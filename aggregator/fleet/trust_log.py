"""Every trust root since the federation began, in order: the first as it is, each later one signed by the one before it.

Nothing is ever changed or removed here, so a device that was away can follow each step. Never holds a private key.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedge.errors import InputError, VerificationError
from fedge.identity import TrustRoot
from fedge.identity.files import make_private_folder, read_file, write_file

MAX_STEPS = 32
"""Most roots that are handed out at once; a device asks again for the rest."""


class TrustLog:
    """Numbered files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest: TrustRoot | None = None

    def exists(self) -> bool:
        """Whether a federation began here."""
        return self._path(1).is_file()

    def begin(self, root: TrustRoot) -> None:
        """The first root. Raises InputError where there is one."""
        if self.exists():
            raise InputError(f"{self._folder} holds a trust root already")
        make_private_folder(self._folder)
        write_file(self._path(1), root.to_bytes())

    def newest(self) -> TrustRoot:
        """The root that counts now, verified from the first one on."""
        root = self._newest or TrustRoot.from_bytes(read_file(self._path(1)))
        while (path := self._path(root.number + 1)).is_file():
            try:
                root = root.successor(read_file(path))
            except VerificationError as error:
                raise InputError(f"{path} cannot be trusted: {error}: restore the folder from its backup") from None
        self._newest = root
        return root

    def append(self, root: TrustRoot, predecessor_key: Ed25519PrivateKey) -> None:
        """The next root. ``predecessor_key`` is the authority's key of the root before."""
        document = root.signed(predecessor_key)
        self.newest().successor(document)
        write_file(self._path(root.number), document)

    def after(self, number: int) -> list[bytes]:
        """The signed roots that follow root ``number``, at most MAX_STEPS."""
        last = self.newest().number
        first = max(1, number) + 1
        return [read_file(self._path(n)) for n in range(first, min(last, first + MAX_STEPS - 1) + 1)]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.json"
