"""Staying a member: certificates renewed at two thirds of their life, revocations and trusted keys fetched.

A door that is out of reach changes nothing: what stands on disk goes on counting, and the next step tries again. A device
whose certificates ran out while it was away comes back over the joining port, with the keys that it joined with. Nothing is
believed that the authority has not signed. A device that the server refuses says so, and goes on asking now and then.
"""

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Event
from typing import Any

import grpc

from edge_client.membership.channel import DoorChannel, channel_options, proxy_options
from edge_client.membership.clock_check import clock_warning, explain_refused_connection
from edge_client.membership.credentials import keep_certificates, keep_revocations, keep_trust, load_keys, load_trust
from edge_client.membership.enrollment import wish_message
from edge_client.settings import DeviceHome, DeviceSettings
from fedge.compatibility import check_protocol
from fedge.errors import FedgeError, VerificationError
from fedge.identity import TrustRoot
from fedge.identity.files import read_file
from fedge.identity.tls import certificate_span
from protos.fedge.fleet.v1 import enrolment_pb2 as pb
from protos.fedge.fleet.v1 import enrolment_pb2_grpc

RENEW_AT = 2 / 3
_EARLIEST = 0.6
TIMEOUT_S = 30.0
_MOST_TRUST_CALLS = 16

_log = logging.getLogger(__name__)


class RenewalFailed(FedgeError):  # noqa: N818 - a state to show, not only an error
    """Nothing was renewed. ``refused``: the server was reached and said no."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Changes:
    """What a step changed."""

    certificates: bool = False
    trust: bool = False
    revocations: bool = False
    warning: str | None = None
    """A line on the device's clock, where that is wrong."""

    @property
    def reconnect(self) -> bool:
        """Whether connections are to be opened anew."""
        return self.certificates or self.trust


class Renewer:
    """Keeps the home of one device up to date. Call ``step`` from a loop, or let ``run`` be the loop."""

    def __init__(
        self,
        home: DeviceHome,
        settings: DeviceSettings,
        *,
        door: Callable[[], grpc.Channel] | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._home = home
        self._settings = settings
        self._door = door or DoorChannel(home, settings.fleet, server_name=settings.server_name)
        self._clock = clock
        self._timeout_s = timeout_s
        # Devices that joined together must not all renew in one minute.
        rng = rng or random.Random()  # noqa: S311 - spreads renewals in time, decides nothing
        self._share = rng.uniform(_EARLIEST, RENEW_AT)

    def due_at(self) -> float:
        """When the certificates are to be renewed, UNIX seconds by the device's clock. Raises InputError."""
        start, end = self._span()
        return start + self._share * (end - start)

    def due(self, now: float) -> bool:
        """Whether they are to be renewed now. By a clock before their beginning, too: better asked once too often."""
        start, _ = self._span()
        return now < start or now >= self.due_at()

    def step(self) -> Changes:
        """Fetches what is new and renews what is due. Raises RenewalFailed where the door is out of reach or says no."""
        if self._clock() >= self._span()[1]:
            return self._step_back_in()
        try:
            return self._step_inside()
        except RenewalFailed as failure:
            # By a clock that is behind, a certificate looks good that the server knows to be over: the other port tells.
            try:
                return self._step_back_in()
            except RenewalFailed:
                raise failure from None

    def _step_inside(self) -> Changes:
        now = self._clock()
        trust, server_s = self._fetch_trust()
        due = self.due(now)
        if due:
            self.renew()
        revocations = self._fetch_revocations(server_s)  # last: a list that is refused must not cost the membership
        return Changes(due, trust, revocations, clock_warning(device_s=now, server_s=server_s))

    def _step_back_in(self) -> Changes:
        self._come_back()
        inside = self._step_inside()
        return Changes(True, inside.trust, inside.revocations, inside.warning)

    def renew(self) -> None:
        """New certificates over mutual TLS. Raises RenewalFailed."""
        keys, trust = load_keys(self._home), load_trust(self._home)
        wish = wish_message(keys.wish(trust.ca_name, self._settings.device_id))
        reply: pb.RenewResponse = self._call("Renew", pb.RenewRequest(wish=wish))
        check_protocol(reply.protocol, who="the server")
        self._take_certificates(trust, reply.certificates, reply.server_time_s)

    def run(self, stopping: Event, *, changed: Callable[[Changes], None], period_s: float = 600.0) -> None:
        """Steps until ``stopping``, jittered; a failure is logged once for each reason and tried again sooner."""
        rng, said = random.Random(), None  # noqa: S311
        while not stopping.is_set():
            failed = False
            try:
                changes = self.step()
                if changes.warning is not None and changes.warning != said:
                    _log.warning("%s", changes.warning)
                said = changes.warning
                changed(changes)
            except FedgeError as error:
                failed = True
                if str(error) != said:
                    _log.warning("%s", error)
                said = str(error)
            stopping.wait((period_s / 10 if failed else period_s) * rng.uniform(0.5, 1.0))

    def _span(self) -> tuple[float, float]:
        return certificate_span(read_file(self._home.tls_certificate))

    def _come_back(self) -> None:
        address = self._settings.enrolment
        if address is None:
            raise RenewalFailed("the certificates have expired, and device.toml names no `enrolment` address: enroll again")
        keys, trust = load_keys(self._home), load_trust(self._home)
        wish = wish_message(keys.wish(trust.ca_name, self._settings.device_id))
        request = pb.ReturnRequest(wish=wish, trust_number=trust.number)
        options = [*channel_options(self._settings.server_name), *proxy_options(address)]
        credentials = grpc.ssl_channel_credentials(root_certificates=read_file(self._home.tls_authority))
        with grpc.secure_channel(address, credentials, options) as channel:
            stub = enrolment_pb2_grpc.JoiningStub(channel)  # type: ignore[no-untyped-call]  # generated code
            try:
                reply: pb.ReturnResponse = stub.Return(request, timeout=self._timeout_s)
            except grpc.RpcError as error:
                raise self._failure(error, address) from None
        check_protocol(reply.protocol, who="the server")
        root = self._walk(trust, reply.trust_roots)
        self._take_certificates(root, reply.certificates, reply.server_time_s)
        if root.number != trust.number:
            keep_trust(self._home, root, now=reply.server_time_s)

    def _take_certificates(self, trust: TrustRoot, made: pb.Certificates, server_s: float) -> None:
        keys = load_keys(self._home)
        try:
            keep_certificates(self._home, keys, trust, identity=made.identity, tls=made.tls, now=server_s)
        except VerificationError as error:
            raise RenewalFailed(f"the renewed certificates cannot be used: {error}") from None

    def _walk(self, root: TrustRoot, documents: Iterable[bytes]) -> TrustRoot:
        try:
            for document in documents:
                root = root.successor(document)
        except VerificationError as error:
            raise RenewalFailed(f"the server's trust roots are refused: {error}") from None
        return root

    def _fetch_trust(self) -> tuple[bool, float]:
        """Walks to the newest trust root; the server's time by the way."""
        first = root = load_trust(self._home)
        for _ in range(_MOST_TRUST_CALLS):
            reply: pb.TrustResponse = self._call("Trust", pb.TrustRequest(number=root.number))
            if not reply.roots:
                break
            root = self._walk(root, reply.roots)
        if root.number != first.number or root.tls_authorities(reply.server_time_s) != read_file(self._home.tls_authority):
            keep_trust(self._home, root, now=reply.server_time_s)
            return True, reply.server_time_s
        return False, reply.server_time_s

    def _fetch_revocations(self, server_s: float) -> bool:
        root: TrustRoot = load_trust(self._home)
        reply: pb.RevocationsResponse = self._call("Revocations", pb.RevocationsRequest())
        before = self._revoked(root)
        try:
            return keep_revocations(self._home, root, reply.revocations, now=server_s).device_ids != before
        except VerificationError as error:
            raise RenewalFailed(f"the server's revocation list is refused: {error}") from None

    def _revoked(self, root: TrustRoot) -> frozenset[str] | None:
        try:
            return root.read_revocations(read_file(self._home.revocations, max_bytes=4 << 20), 0.0).device_ids
        except FedgeError:
            return None

    def _call(self, name: str, request: object) -> Any:
        stub = enrolment_pb2_grpc.EnrolmentStub(self._door())  # type: ignore[no-untyped-call]  # generated code
        try:
            return getattr(stub, name)(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error, self._settings.fleet) from None

    def _failure(self, error: grpc.RpcError, address: str) -> RenewalFailed:
        call: object = error  # the stubs do not know that what a stub raises is the call as well
        code, details = (call.code(), call.details()) if isinstance(call, grpc.Call) else (None, str(error))
        if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION):
            return RenewalFailed(f"the door says no: {details}", refused=True)
        clue = explain_refused_connection(address, read_file(self._home.tls_authority), now=self._clock())
        return RenewalFailed(clue or f"the door at {address} is out of reach: {details}")
