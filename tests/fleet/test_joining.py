"""Joining a fleet over real TLS at a real door: who gets in, who does not, and what a device has afterwards."""

import os
import ssl
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from edge_client.membership.credentials import load_member, load_trust
from edge_client.membership.enrollment import EnrollmentFailed, enroll
from edge_client.settings import DeviceHome
from fedge.compatibility import PROTOCOL
from fedge.errors import InputError
from fedge.identity import Invitation, RevocationList
from fedge.identity.tls import certificate_span, new_tls_authority
from protos.fedge.fleet.v1 import enrolment_pb2 as pb
from protos.fedge.fleet.v1 import enrolment_pb2_grpc


def test_a_device_that_joined_has_everything_it_needs_and_is_let_in(federation):
    done = enroll(federation.invite(), federation.device("kitchen"), "kitchen")
    home = federation.device("kitchen")
    assert (done.device_id, done.federation, done.warning) == ("kitchen", "fedge", None)
    settings = home.settings()
    assert settings.fleet == f"localhost:{federation.ports.fleet_port}"
    assert settings.central == "localhost:8742"
    assert settings.enrolment == f"localhost:{federation.ports.join_port}"
    assert load_trust(home) == federation.authority.trust()
    assert load_member(home, now=federation.clock()).device_id == "kitchen"
    start, end = certificate_span(home.tls_certificate.read_bytes())
    assert end - start <= 24 * 3600
    assert load_ssh_private_key(home.node_key.read_bytes(), None).curve.name == "secp384r1"
    assert federation.ask(home).revocations
    ((device, member),) = federation.authority.devices()
    assert (device.device_id, device.issued, member.trust_number) == ("kitchen", 1, 1)


def test_private_keys_are_the_owners_alone(federation):
    home = federation.enroll("kitchen")
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    for path in (home.identity_key, home.tls_key, home.node_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [path for path in home.folder.iterdir() if path.name.endswith(".new")]
    for path in federation.home.authority.iterdir():
        if path.suffix in (".pem", ".key"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_is_good_for_one_device_and_for_its_repetitions(federation, tmp_path):
    invitation = federation.invite()
    home = federation.device("kitchen")
    enroll(invitation, home, "kitchen")
    first = home.tls_certificate.read_bytes(), home.identity_certificate.read_bytes()
    enroll(invitation, home, "kitchen")  # as if the first reply had been lost
    assert (home.tls_certificate.read_bytes(), home.identity_certificate.read_bytes()) == first
    with pytest.raises(EnrollmentFailed, match="used by another device"):
        enroll(invitation, federation.device("cellar"), "cellar")
    with pytest.raises(EnrollmentFailed, match="used by another device"):
        enroll(invitation, DeviceHome(tmp_path / "thief"), "kitchen")
    assert [device.device_id for device, _ in federation.authority.devices()] == ["kitchen"]


def test_a_token_is_not_stored(federation):
    invitation = federation.invite()
    enroll(invitation, federation.device("kitchen"), "kitchen")
    for path in federation.home.folder.rglob("*"):
        assert path.is_dir() or invitation.token not in path.read_bytes()


def test_an_expired_or_unknown_token_is_refused(federation):
    invitation = federation.invite()
    federation.clock.shift_s = 15 * 60 + 1
    with pytest.raises(EnrollmentFailed, match="expired"):
        enroll(invitation, federation.device("kitchen"), "kitchen")
    invented = Invitation(invitation.address, invitation.ca_name, invitation.authority_key, b"x" * 32)
    with pytest.raises(EnrollmentFailed, match="not known"):
        enroll(invented, federation.device("kitchen"), "kitchen")
    assert federation.authority.devices() == []


def test_a_malformed_request_is_refused_in_one_line(federation):
    invitation = federation.invite()
    tls = grpc.ssl_channel_credentials((federation.home.tls / "ca.crt").read_bytes())
    with grpc.secure_channel(invitation.address, tls) as channel:
        join = enrolment_pb2_grpc.JoiningStub(channel).Join
        for request in (
            pb.JoinRequest(),
            pb.JoinRequest(token=invitation.token),
            pb.JoinRequest(token=invitation.token, wish=pb.Wish(identity_request=b"{}", tls_request=b"x", node_key="y")),
            pb.JoinRequest(token=invitation.token[:-1]),
        ):
            request.wish.protocol = PROTOCOL
            with pytest.raises(grpc.RpcError) as refusal:
                join(request, timeout=20)
            assert refusal.value.code() == grpc.StatusCode.PERMISSION_DENIED
            assert "\n" not in refusal.value.details()
    enroll(invitation, federation.device("kitchen"), "kitchen")  # none of that used the token up


def test_the_token_goes_to_nobody_but_the_server_that_made_it(federation):
    invitation = federation.invite()
    other = new_tls_authority(not_before=0, not_after=4e9).private_key.public_key()
    with pytest.raises(EnrollmentFailed, match="is not the expected one"):
        enroll(
            Invitation(invitation.address, invitation.ca_name, other, invitation.token),
            federation.device("kitchen"),
            "kitchen",
        )
    enroll(invitation, federation.device("kitchen"), "kitchen")


def test_an_id_that_is_taken_stays_with_its_device_and_costs_no_token(federation, tmp_path):
    federation.enroll("kitchen")
    invitation = federation.invite()
    with pytest.raises(EnrollmentFailed, match="belongs to another key"):
        enroll(invitation, DeviceHome(tmp_path / "other"), "kitchen")
    enroll(invitation, federation.device("cellar"), "cellar")


def test_a_home_belongs_to_one_device(federation):
    home = federation.enroll("kitchen")
    with pytest.raises(InputError, match="belongs to device 'kitchen'"):
        enroll(federation.invite(), home, "cellar")


def test_what_a_person_wrote_into_the_settings_stays_when_a_device_joins_again(federation):
    home = federation.enroll("kitchen", settings={"api.port": 8799})
    home.settings_file.write_text(home.settings_file.read_text() + "# mine\n")
    enroll(federation.invite(), home, "kitchen", settings={"min_cohort": 2})
    assert "# mine" in home.settings_file.read_text()
    assert (home.settings().api.port, home.settings().min_cohort) == (8799, 2)


def test_a_revoked_device_cannot_join_again(federation):
    home = federation.enroll("kitchen")
    federation.revoke("kitchen")
    with pytest.raises(EnrollmentFailed, match="revoked"):
        enroll(federation.invite(), home, "kitchen")


def test_a_door_that_is_shut_is_said_to_be(closed):
    with closed.open():
        invitation = closed.invite()
    with pytest.raises(EnrollmentFailed, match="no answer from localhost"):
        enroll(invitation, closed.device("kitchen"), "kitchen", timeout_s=2)


def test_many_devices_join_at_once_through_one_door(federation):
    invitations = [federation.invite() for _ in range(8)]

    def join(number: int) -> str:
        name = f"device-{number}"
        return enroll(invitations[number], federation.device(name), name).device_id

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(join, range(8))) == [f"device-{number}" for number in range(8)]
    assert len(federation.authority.devices()) == 8


@pytest.mark.parametrize("side", ["fleet", "join"])
def test_tls_1_2_is_refused_and_1_3_is_taken(federation, side):
    home = federation.enroll("kitchen")
    port = federation.ports.fleet_port if side == "fleet" else federation.ports.join_port
    assert federation.spoken(home, port, ssl.TLSVersion.TLSv1_2) is None
    assert federation.spoken(home, port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


@pytest.mark.parametrize(
    ("order", "said"), [("import grpc, aggregator", "imported before"), ("import aggregator, grpc", "")]
)
def test_nothing_is_served_where_grpc_was_imported_too_early_to_refuse_tls_1_2(closed, order, said):
    closed.publish()
    tls = closed.home.tls
    script = f"""
{order}
from pathlib import Path
from aggregator.fleet.gateway import ServerTls
from fedge.errors import InputError
folder = Path({str(tls)!r})
try:
    ServerTls(folder / "server.crt", folder / "server.key", folder / "ca.crt").credentials()
except InputError as error:
    print(error)
"""
    root = Path(__file__).parents[2]
    variables = {key: value for key, value in os.environ.items() if key != "GRPC_SSL_CIPHER_SUITES"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={**variables, "PYTHONPATH": str(root)},
    )
    assert said in done.stdout
    assert bool(done.stdout) is bool(said)


def test_the_revocation_list_is_signed_by_the_authority(federation):
    home = federation.enroll("kitchen")
    federation.enroll("cellar")
    federation.revoke("cellar")
    signed = federation.ask(home).revocations
    assert RevocationList.verify(signed, federation.authority.trust().authority_key).device_ids == {"cellar"}
