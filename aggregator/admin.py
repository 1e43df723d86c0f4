"""What an operator may look at and decide about a fleet, over the server's folder: devices, invitations, releases.

The commands and the console act through this one place, so that both do the same. Decisions are published for devices at
once; a running server need not be told. Knows nothing of who asked: roles, confirmation and the audit log are the caller's.
"""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from aggregator.fleet.authority import Authority
from aggregator.fleet.enrollment_service import invitation
from aggregator.fleet.inventory import EVERYONE, Standing, Wanted
from aggregator.fleet.presigned import is_presigned
from aggregator.fleet.published import publish
from aggregator.releases.publication import OfferedRegistry, RolloutRecord, tuf_repository
from aggregator.releases.registry import ReleaseRegistry, Transition
from aggregator.releases.tuf_repository import TufRepository
from aggregator.settings import ServerHome
from aggregator.signing.queue import SplitServer
from aggregator.store import Database, RolloutRow
from fedge.errors import InputError
from fedge.identity import Invitation, TrustRoot
from fedge.release import CertificateDocument

MAX_REASON = 200
TOKEN_MINUTES = 15.0


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator's reach over one server's folder. ``clock``: UNIX seconds. ``database``: the record that is open already;
    without it, the folder's own is opened for what has to be written down.
    """

    home: ServerHome
    clock: Callable[[], float] = time.time
    database: Database | None = None

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

    def releases(self, *, only: str | None = None) -> list[dict[str, Any]]:
        """Every release in the order of publication, or the one of that id, with its channel and why it is in its state."""
        registry = self.registry()
        canary, last = registry.canary(), registry.last_moves(release_id=only)
        certificates, now = registry.certificates(release_id=only), self.clock()
        entries = []
        for release in registry.releases():
            if only is not None and release.release_id != only:
                continue
            on_canary = canary is not None and canary.release_id == release.release_id
            move = last[release.release_id]
            entries.append(
                {
                    "release": release.release_id,
                    "version": release.version,
                    "state": release.state,
                    "channel": "stable" if release.state == "active" else "canary" if on_canary else None,
                    "share": canary.share if canary is not None and on_canary else None,
                    "certificate": _said(certificates.get(release.release_id), now=now),
                    "since": move.at,
                    "reason": move.reason,
                }
            )
        return entries

    def steps(self) -> dict[str, list[dict[str, Any]]]:
        """Each release's way to the fleet, oldest step first, by its id, as the registry itself has it."""
        found: dict[str, list[dict[str, Any]]] = {}
        for one in self.registry().transitions():
            found.setdefault(one.release_id, []).append(step_entry(one))
        return found

    def find_release(self, wanted: str) -> str:
        """The one release whose id begins so. Raises InputError."""
        found = [one.release_id for one in self.registry().releases() if one.release_id.startswith(wanted)]
        if len(wanted) < 4:
            raise InputError(f"release {wanted[:64]!r}: give at least 4 digits of its id")
        if len(found) != 1:
            how_many = "several releases begin" if found else "no release begins"
            raise InputError(f"release {wanted[:64]!r}: {how_many} with that")
        return found[0]

    def promote(self, release: str, *, reason: str, by: str) -> str:
        """Make a candidate, on the canary or not, what all devices run; ``by`` acts. Returns what was done, for people."""
        release_id = self.find_release(release)
        self._offered().promote(release_id, at=self.clock(), reason=reason[:MAX_REASON], actor=by)
        return f"{release_id[:12]} is active: devices take it at their next look"

    def roll_back(self, *, reason: str, by: str) -> str:
        """Take back the release on the canary; without one, the active release. Returns what was done, for people."""
        offered, registry = self._offered(), self.registry()
        canary, active = registry.canary(), registry.active()
        if canary is not None:
            offered.reject(canary.release_id, at=self.clock(), reason=reason[:MAX_REASON], actor=by)
            return f"{canary.release_id[:12]} is rejected: its devices go back to {(active or 'none')[:12]}"
        back = offered.rollback(at=self.clock(), reason=reason[:MAX_REASON], actor=by)
        return f"{(active or '')[:12]} is rolled back: devices go back to {back[:12]} at their next look"

    def awaits_signature(self) -> list[str]:
        """Return what waits for the signing machine, for people; nothing where the server holds its keys itself."""
        return SplitServer(self.home).awaits() if is_presigned(self.home.authority) else []

    def restored(self) -> None:
        """After the folder came back from a backup: sign versions above all that devices may have seen."""
        self._offered().catch_up()
        self.tuf().advance()

    def _offered(self) -> OfferedRegistry:
        registry = self.registry()
        return OfferedRegistry(registry, self.tuf(), record=RolloutRecord(registry, self._record).follow)

    def follow_rollouts(self) -> None:
        """Bring the record of rollouts up to the registry."""
        if self.home.registry.is_dir():
            RolloutRecord(self.registry(), self._record).follow()

    def _record(self) -> AbstractContextManager[Database]:
        if self.database is not None:
            return nullcontext(self.database)
        return Database.open(self.home.settings().database or self.home.database_url)


def step_entry(step: Transition | RolloutRow) -> dict[str, Any]:
    """A step of a rollout as JSON has it."""
    return {
        "at": step.at,
        "step": step.step,
        "from": step.origin,
        "to": step.state,
        "share": step.share,
        "reason": step.reason,
        "actor": step.actor,
    }


def _said(document: CertificateDocument | None, *, now: float) -> str | None:
    """What a release's certificate says: certified, empirical, none, or that it has expired. None where it has none."""
    if document is None:
        return None
    # Signed by ourselves, after it was checked: to work its bounds out again for each of a thousand would take a second.
    statement = json.loads(document.statement)
    return "expired" if now >= statement["expires_at"] else str(statement["state"])


def _joining_address(address: str, port: int) -> str:
    """HOST:PORT of a host with or without a port; an IPv6 address gets its brackets."""
    if address.startswith("["):
        return address if "]:" in address else f"{address}:{port}"
    if address.count(":") > 1:
        return f"[{address}]:{port}"
    return address if ":" in address else f"{address}:{port}"
