"""The enrolment services of the door: they read messages, ask the authority, and say no in one clear line.

Never logs a token or a request. What the authority may refuse is decided in `aggregator.fleet.authority`.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import grpc

from aggregator.fleet.authentication import Context, caller
from aggregator.fleet.authority import Authority, Certificates
from fedge.compatibility import PROTOCOL, check_protocol
from fedge.errors import FedgeError, InputError, VerificationError
from fedge.identity import Invitation
from fedge.identity.files import read_file
from fedge.identity.join import TOKEN_BYTES
from fedge.identity.wish import Wish
from protos.fedge.fleet.v1 import enrolment_pb2 as pb
from protos.fedge.fleet.v1 import enrolment_pb2_grpc

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Where:
    """What a device that joins is told of its federation."""

    federation: str
    fleet_port: int
    central_port: int
    tuf_metadata: Path
    """Where TUF's root metadata (N.root.json) stand; the newest is handed out, if there is one."""


class JoiningServicer(enrolment_pb2_grpc.JoiningServicer):
    """For devices without a valid certificate."""

    def __init__(self, authority: Authority, where: Where, *, lifetime_s: float, clock: Clock) -> None:
        self._authority = authority
        self._where = where
        self._lifetime_s = lifetime_s
        self._clock = clock

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:  # noqa: N802 - the wire's name
        """Certificates for a token."""
        return await _answered(context, lambda: self._join(request))

    async def Return(self, request: pb.ReturnRequest, context: Context) -> pb.ReturnResponse:  # noqa: N802
        """Certificates for a member whose old ones ran out."""
        now = self._clock()

        def renew() -> tuple[Certificates, list[bytes]]:
            found = self._authority.renew(_wish(request.wish), now=now, lifetime_s=self._lifetime_s, caller=None)
            return found, self._authority.log.after(request.trust_number)

        found, roots = await _answered(context, renew)
        return pb.ReturnResponse(certificates=_certificates(found), server_time_s=now, trust_roots=roots, protocol=PROTOCOL)

    def _join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        now, where = self._clock(), self._where
        if len(request.token) != TOKEN_BYTES:
            raise VerificationError(f"a join token has {TOKEN_BYTES} bytes, not {len(request.token)}")
        made = self._authority.join(request.token, _wish(request.wish), now=now, lifetime_s=self._lifetime_s)
        return pb.JoinResponse(
            certificates=_certificates(made),
            trust=self._authority.trust().to_bytes(),
            revocations=self._authority.signed_revocations(now=now),
            tuf_root=_newest_root(where.tuf_metadata),
            federation=where.federation,
            fleet_port=where.fleet_port,
            central_port=where.central_port,
            server_time_s=now,
            protocol=PROTOCOL,
        )


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServicer):
    """For members. Behind `aggregator.fleet.authentication.Admission`."""

    def __init__(self, authority: Authority, *, lifetime_s: float, clock: Clock) -> None:
        self._authority = authority
        self._lifetime_s = lifetime_s
        self._clock = clock

    async def Renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewResponse:  # noqa: N802
        """New certificates for the caller."""
        now, device_id = self._clock(), caller(context)
        found = await _answered(
            context,
            lambda: self._authority.renew(_wish(request.wish), now=now, lifetime_s=self._lifetime_s, caller=device_id),
        )
        return pb.RenewResponse(certificates=_certificates(found), server_time_s=now, protocol=PROTOCOL)

    async def Revocations(self, request: pb.RevocationsRequest, context: Context) -> pb.RevocationsResponse:  # noqa: N802
        """The present list."""
        now = self._clock()
        signed = await _answered(context, lambda: self._authority.signed_revocations(now=now))
        return pb.RevocationsResponse(revocations=signed, server_time_s=now)

    async def Trust(self, request: pb.TrustRequest, context: Context) -> pb.TrustResponse:  # noqa: N802
        """What the caller lacks."""
        now, device_id = self._clock(), caller(context)

        def read() -> list[bytes]:
            self._authority.note_trust(device_id, request.number, now=now)
            return self._authority.log.after(request.number)

        return pb.TrustResponse(roots=await _answered(context, read), server_time_s=now)


def invitation(authority: Authority, address: str, *, now: float, lifetime_s: float) -> Invitation:
    """A new token with all that a device needs to use it at ``address`` (host:port of the door's joining side)."""
    token = authority.new_token(now=now, lifetime_s=lifetime_s)
    # The servers' certificates are the issuing authority's.
    return Invitation(address, authority.trust().ca_name, authority.tls.private_key.public_key(), token)


def _newest_root(metadata: Path) -> bytes:
    numbers = [int(path.name.split(".")[0]) for path in metadata.glob("[0-9]*.root.json")]
    return read_file(metadata / f"{max(numbers)}.root.json") if numbers else b""


def _wish(message: pb.Wish) -> Wish:
    """Raises InputError where the device is too old, or too new, for this server."""
    check_protocol(message.protocol, who="the device")
    return Wish(message.identity_request, message.tls_request, message.node_key)


def _certificates(found: Certificates) -> pb.Certificates:
    return pb.Certificates(identity=found.identity, tls=found.tls)


async def _answered(context: Context, work: Callable[[], _T]) -> _T:
    """What ``work`` returns, done beside the event loop: it waits for the database's lock."""
    try:
        return await asyncio.to_thread(work)
    except VerificationError as error:
        await _abort(context, grpc.StatusCode.PERMISSION_DENIED, str(error))
    except InputError as error:
        await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
    except FedgeError as error:
        _log.error("enrolment: %s", error)
        await _abort(context, grpc.StatusCode.UNAVAILABLE, "the enrolment authority cannot answer now: try again")


async def _abort(context: Context, status: grpc.StatusCode, line: str) -> NoReturn:
    await context.abort(status, line[:500])
    raise AssertionError("unreachable: abort raises")
