"""Joining a fleet: keys made here, one authenticated call with the token, and a home that is complete at its end.

The server is known before the first byte: its TLS authority's key stands in the join string. The token is sent over that
connection only. A call whose reply was lost may be repeated: the keys stay, so the server answers the same again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc

from edge_client.membership.channel import channel_options, proxy_options
from edge_client.membership.clock_check import clock_warning, explain_refused_connection
from edge_client.membership.credentials import keep_certificates, keep_revocations, keep_trust, load_or_create_keys
from edge_client.settings import DeviceHome, DeviceSettings
from fedge.compatibility import PROTOCOL, check_protocol
from fedge.errors import FedgeError, InputError, VerificationError
from fedge.identity import AWAITING_ENROLLMENT, Invitation, TrustRoot, check_device_id, key_fingerprint
from fedge.identity.files import make_private_folder, write_file
from fedge.identity.tls import anchor_certificate
from fedge.identity.wish import Wish
from fedge.settings import parse_settings
from fedge.settings_text import as_toml, with_values
from protos.fedge.fleet.v1 import enrolment_pb2 as pb
from protos.fedge.fleet.v1 import enrolment_pb2_grpc

TIMEOUT_S = 30.0
_TRIES = 3


class EnrollmentFailed(FedgeError):  # noqa: N818 - what the person who enrolls is told
    """The device is no member; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """How it went."""

    device_id: str
    federation: str
    warning: str | None
    """A line on the device's clock, where that is wrong."""


def enroll(
    invitation: Invitation,
    home: DeviceHome,
    device_id: str,
    *,
    clock: Callable[[], float] = time.time,
    settings: Mapping[str, object] | None = None,
    server_name: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Enrolled:
    """Makes this machine the member ``device_id``. ``settings``: further values for device.toml, by dotted key.

    Raises InputError for a home of another device, EnrollmentFailed where the server cannot be reached or says no.
    """
    check_device_id(device_id)
    _check_home(home, device_id)
    keys = load_or_create_keys(home)
    wish = wish_message(keys.wish(invitation.ca_name, device_id))
    try:
        reply = _join(invitation, pb.JoinRequest(token=invitation.token, wish=wish), server_name, clock, timeout_s)
    except EnrollmentFailed as failure:
        if AWAITING_ENROLLMENT not in str(failure):
            raise
        # Worked out here: a server that swaps keys on the way would show the fingerprint of its own.
        fingerprint = key_fingerprint(keys.identity.public_key().public_bytes_raw())
        raise EnrollmentFailed(
            f"{device_id} {AWAITING_ENROLLMENT}. Have it accepted on the signing machine as {device_id}={fingerprint}, then "
            "run this command again"
        ) from None
    check_protocol(reply.protocol, who="the server")
    now = reply.server_time_s
    try:
        trust = TrustRoot.from_bytes(reply.trust)
        if trust.ca_name != invitation.ca_name:
            raise VerificationError("the server's trust root is another federation's")
        made = reply.certificates
        keep_trust(home, trust, now=now)
        home.revocations.unlink(missing_ok=True)  # of an earlier membership, perhaps elsewhere
        keep_revocations(home, trust, reply.revocations, now=now)
        keep_certificates(home, keys, trust, identity=made.identity, tls=made.tls, now=now)
    except VerificationError as error:
        raise EnrollmentFailed(f"the server's answer cannot be used: {error}") from None
    make_private_folder(home.tuf)
    if reply.tuf_root:
        write_file(home.tuf / "root.json", reply.tuf_root)
    values = {**_addresses(invitation, reply), **({"server_name": server_name} if server_name else {}), **(settings or {})}
    _write_settings(home, {"device_id": device_id, **values})  # last: with it the home is complete
    return Enrolled(device_id, reply.federation, clock_warning(device_s=clock(), server_s=now))


def wish_message(wish: Wish) -> pb.Wish:
    """As it travels."""
    return pb.Wish(
        identity_request=wish.identity_request, tls_request=wish.tls_request, node_key=wish.node_key, protocol=PROTOCOL
    )


def _check_home(home: DeviceHome, device_id: str) -> None:
    if home.settings_file.is_file():
        there = home.settings().device_id
        if there != device_id:
            raise InputError(f"{home.folder} belongs to device {there!r}: give another --home, or --name {there}")


def _join(
    invitation: Invitation,
    request: pb.JoinRequest,
    server_name: str | None,
    clock: Callable[[], float],
    timeout_s: float,
) -> pb.JoinResponse:
    options = [*channel_options(server_name), *proxy_options(invitation.address)]
    address, anchor = invitation.address, anchor_certificate(invitation.authority_key)
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(root_certificates=anchor), options) as channel:
        join = enrolment_pb2_grpc.JoiningStub(channel).Join  # type: ignore[no-untyped-call]  # generated code
        for tries in range(1, _TRIES + 1):
            try:
                reply: pb.JoinResponse = join(request, timeout=timeout_s)
                return reply
            except grpc.RpcError as error:
                refusal = error
            if _status(refusal)[0] != grpc.StatusCode.UNAVAILABLE:
                break
            if (clue := explain_refused_connection(address, anchor, now=clock())) is not None:
                raise EnrollmentFailed(clue) from None
            if tries < _TRIES:
                time.sleep(0.5 * tries)
    raise EnrollmentFailed(_reason(invitation, refusal)) from None


def _reason(invitation: Invitation, error: grpc.RpcError) -> str:
    code, details = _status(error)
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION):
        return f"the server says no: {details}"
    return f"no answer from {invitation.address}: {details}"


def _status(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    call: object = error  # the stubs do not know that what a stub raises is the call as well
    return (call.code(), call.details() or "") if isinstance(call, grpc.Call) else (grpc.StatusCode.UNKNOWN, str(error))


def _addresses(invitation: Invitation, reply: pb.JoinResponse) -> dict[str, object]:
    host = invitation.address.rpartition(":")[0]
    return {
        "enrolment": invitation.address,
        "fleet": f"{host}:{reply.fleet_port}",
        "central": f"{host}:{reply.central_port}",
        "federation": reply.federation,
    }


def _write_settings(home: DeviceHome, values: Mapping[str, object]) -> None:
    """device.toml with these values: in place where it stands, else a new file with every setting."""
    if home.settings_file.is_file():
        text = with_values(home.settings_file.read_text(encoding="utf-8"), values)
    else:
        needed = {key: str(values[key]) for key in ("device_id", "fleet", "central")}
        text = with_values(as_toml(DeviceSettings(**needed)), values)
    parse_settings(DeviceSettings, text, source=str(home.settings_file))
    write_file(home.settings_file, text.encode("utf-8"))
