"""Which release a device runs and under which certificate. The files themselves lie in the release folder."""

from dataclasses import dataclass

from edge_client.store.database import Database


@dataclass(frozen=True, slots=True)
class InstalledRelease:
    """The release in use and its signed certificate, if any. ``version`` and ``publication`` (the round of the newest
    certificate that the device ever had) are the marks below which nothing is installed."""

    release_id: str
    version: int
    certificate: bytes | None
    publication: int


class Installed:
    """The one installed release."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self) -> InstalledRelease | None:
        """What is installed, or None on a new device."""
        row = self._database.row("SELECT release_id, version, certificate, publication FROM installed")
        return None if row is None else InstalledRelease(*row)

    def clear(self) -> None:
        """Nothing is installed."""
        self._database.write("DELETE FROM installed")

    def set(self, installed: InstalledRelease) -> None:
        """Replace what is installed."""
        self._database.write(
            "INSERT INTO installed VALUES (1, ?, ?, ?, ?) ON CONFLICT (slot) DO UPDATE SET "
            "release_id = excluded.release_id, version = excluded.version, certificate = excluded.certificate, "
            "publication = excluded.publication",
            (installed.release_id, installed.version, installed.certificate, installed.publication),
        )
