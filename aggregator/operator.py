"""What an operator may look at and decide about a fleet, over the server's folder: devices, invitations, releases.

The commands and the console act through this one place, so that both do the same. Decisions are published for devices at
once; a running server need not be told. Knows nothing of who asked: roles, confirmation and the audit log are the caller's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aggregator.fleet.authority import Authority
from aggregator.fleet.census import EVERYONE, Standing, Wanted
from aggregator.fleet.enrolling import invitation
from aggregator.fleet.published import publish
from aggregator.releases.offering import OfferedRegistry, tuf_repository
from aggregator.releases.registry import ReleaseRegistry
from aggregator.releases.tuf_repository import TufRepository
from aggregator.settings import ServerHome
from fedge.errors import InputError
from fedge.identity import Invitation, TrustRoot
from fedge.routing import CertificateStatement

MAX_REASON = 200
TOKEN_MINUTES = 15.0


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator's reach over one server's folder. ``clock``: UNIX seconds."""

    home: ServerHome
    clock: Callable[[], float] = time.time

    # Devices.

    def devices(
        self, wanted: Wanted = EVERYONE, *, members_first: bool = False, start: int = 0, count: int | None = None
    ) -> list[dict[str, Any]]:
        """Every device that is ``wanted``, by id: its state, since when, when last seen, until when its certificates last,
        and what it said of itself last.

        ``members_first``: then who is away, then who is revoked, each by id. ``count`` from ``start`` on, all where None.
        """
        authority = Authority(self.home.authority)
        return authority.listed(wanted, now=self.clock(), members_first=members_first, start=start, count=count)

    def device(self, device: str) -> dict[str, Any] | None:
        """One device, as `devices` has it; None for a stranger."""
        return next(iter(self.devices(Wanted(device=device))), None)

    def matching(self, wanted: Wanted) -> int:
        """How many devices are ``wanted``."""
        return Authority(self.home.authority).matching(wanted, now=self.clock())

    def devices_by_state(self) -> dict[str, int]:
        """How many are member, away and revoked."""
        return dict(Authority(self.home.authority).counted(now=self.clock()))

    def standing(self) -> Standing:
        """How members stand, by what they said of themselves lately."""
        return Authority(self.home.authority).standing(now=self.clock())

    def revoke(self, device: str, *, reason: str) -> dict[str, Any]:
        """Shut a device out for good: from its next call, and from the next roster on. Raises InputError for a stranger."""
        now, authority = self.clock(), Authority(self.home.authority)
        authority.revoke(device, now=now, reason=reason[:MAX_REASON])
        publish(authority, self.home, self.home.settings().names, now=now)
        return {"device": device, "revoked": now, "reason": reason[:MAX_REASON]}

    def invite(self, *, address: str | None = None, minutes: float = TOKEN_MINUTES) -> Invitation:
        """A join string for one new device, which finds the door at ``address``. Whoever uses it first is a member."""
        authority, settings = Authority(self.home.authority), self.home.settings()
        where = _joining_address(address or settings.names[0], settings.join_port)
        return invitation(authority, where, now=self.clock(), lifetime_s=minutes * 60.0)

    # Releases.

    def registry(self) -> ReleaseRegistry:
        """The releases. Raises InputError for a folder without any."""
        if not self.home.trust.is_file() or not self.home.registry.is_dir():
            raise InputError(f"{self.home.folder} holds no releases: run fedge server init, or give --home")
        return ReleaseRegistry(self.home.registry, TrustRoot.from_bytes(self.home.trust.read_bytes()).release_key)

    def tuf(self) -> TufRepository:
        """The repository that devices read releases from."""
        return tuf_repository(self.home, self.home.settings())

    def releases(self) -> list[dict[str, Any]]:
        """Every release in the order of publication, with its channel and why it is in its state."""
        registry = self.registry()
        canary, last = registry.canary(), {move.release_id: move for move in registry.history()}
        entries = []
        for release in registry.releases():
            on_canary = canary is not None and canary.release_id == release.release_id
            move = last[release.release_id]
            entries.append(
                {
                    "release": release.release_id,
                    "version": release.version,
                    "state": release.state,
                    "channel": "stable" if release.state == "active" else "canary" if on_canary else None,
                    "share": canary.share if canary is not None and on_canary else None,
                    "certificate": self._certificate(registry, release.release_id),
                    "since": move.at,
                    "reason": move.reason,
                }
            )
        return entries

    def _certificate(self, registry: ReleaseRegistry, release_id: str) -> str | None:
        """What a release's certificate says: certified, empirical, none, or that it has expired. None where it has none."""
        document = registry.certificate(release_id)
        if document is None:
            return None
        statement = CertificateStatement.from_bytes(document.statement)
        return "expired" if self.clock() >= statement.expires_at else statement.state

    def find_release(self, wanted: str) -> str:
        """The one release whose id begins so. Raises InputError."""
        found = [one.release_id for one in self.registry().releases() if one.release_id.startswith(wanted)]
        if len(wanted) < 4:
            raise InputError(f"release {wanted[:64]!r}: give at least 4 digits of its id")
        if len(found) != 1:
            how_many = "several releases begin" if found else "no release begins"
            raise InputError(f"release {wanted[:64]!r}: {how_many} with that")
        return found[0]

    def promote(self, release: str, *, reason: str) -> str:
        """Make a candidate, on the canary or not, what all devices run. Returns what was done, for people."""
        release_id = self.find_release(release)
        self._offered().promote(release_id, at=self.clock(), reason=reason[:MAX_REASON])
        return f"{release_id[:12]} is active: devices take it at their next look"

    def roll_back(self, *, reason: str) -> str:
        """Take back the release on the canary; without one, the active release. Returns what was done, for people."""
        offered, registry = self._offered(), self.registry()
        canary, active = registry.canary(), registry.active()
        if canary is not None:
            offered.reject(canary.release_id, at=self.clock(), reason=reason[:MAX_REASON])
            return f"{canary.release_id[:12]} is rejected: its devices go back to {(active or 'none')[:12]}"
        back = offered.rollback(at=self.clock(), reason=reason[:MAX_REASON])
        return f"{(active or '')[:12]} is rolled back: devices go back to {back[:12]} at their next look"

    def restored(self) -> None:
        """After the folder came back from a backup: sign versions above all that devices may have seen."""
        self._offered().catch_up()
        self.tuf().advance()

    def _offered(self) -> OfferedRegistry:
        return OfferedRegistry(self.registry(), self.tuf())


def _joining_address(address: str, port: int) -> str:
    """HOST:PORT of a host with or without a port; an IPv6 address gets its brackets."""
    if address.startswith("["):
        return address if "]:" in address else f"{address}:{port}"
    if address.count(":") > 1:
        return f"[{address}]:{port}"
    return address if ":" in address else f"{address}:{port}"
