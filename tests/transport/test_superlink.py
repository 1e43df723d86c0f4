"""The SuperLink process: who gets in and who does not."""

import http.client
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from aggregator.rounds.superlink.client import SuperLink
from aggregator.rounds.superlink.process import prepare_superlink, superlink_address
from aggregator.rounds.superlink.runtime_client import SuperLinkLost
from aggregator.settings import ServerHome
from edge_client.flower.fleet_api import FleetApi, FleetRefused, FleetUnreachable, node_public_key
from edge_client.flower.transports import straight
from fedge.errors import InputError
from fedge.flower import check_flower


@pytest.fixture(scope="module")
def home(world, processes):
    world.make_folder(processes.folder, devices=0, n_min=2)
    processes.superlink()
    return ServerHome(processes.folder)


@pytest.fixture(scope="module")
def superlink(home, processes):
    def connect():
        try:
            client = SuperLink(superlink_address(home), prepare_superlink(home))
            client.nodes()
        except SuperLinkLost:
            return None
        return client

    return processes.wait_for("SuperLink", connect)


def some_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def node(home, key) -> FleetApi:
    return FleetApi(straight(superlink_address(home), prepare_superlink(home).certificate.read_bytes()), key)


def post(home, path: str, *, context: ssl.SSLContext | None = None) -> int:
    if context is None:
        context = ssl.create_default_context(cafile=str(prepare_superlink(home).certificate))
    host, _, port = superlink_address(home).partition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    connection.request("POST", path, body=b"", headers={"content-type": "application/protobuf"})
    return connection.getresponse().status


@pytest.mark.parametrize(
    "path",
    ["/v1/control/list-nodes", "/v1/control/register-node", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs"],
)
def test_nothing_but_a_nodes_routes_answers_without_the_secret(superlink, home, path):
    assert post(home, path) == 403


def test_a_path_that_only_looks_like_a_nodes_does_not_get_past_the_guard(superlink, home):
    assert post(home, "/v1/fleet/../control/list-nodes") in (401, 404)
    assert post(home, "//v1/fleet/pull-messages") == 403


def test_tls_below_1_3_is_refused(superlink, home):
    context = ssl.create_default_context(cafile=str(prepare_superlink(home).certificate))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        post(home, "/v1/fleet/pull-messages", context=context)


def test_a_node_whose_key_is_not_registered_is_refused(superlink, home):
    with pytest.raises(FleetRefused):
        node(home, some_key()).activate()


def test_a_registered_node_is_known_again_under_the_same_id(superlink, home):
    key = some_key()
    first = superlink.register_node(node_public_key(key))
    assert superlink.register_node(node_public_key(key)) == first == node(home, key).activate()


def test_a_node_cannot_pull_as_another(superlink, home):
    keys = [some_key(), some_key()]
    ids = [superlink.register_node(node_public_key(key)) for key in keys]
    thief = node(home, keys[0])
    thief.activate()
    thief._node.node_id = ids[1]
    for attempt in (thief.pull, thief.heartbeat):
        with pytest.raises(FleetRefused) as refused:
            attempt()
        assert refused.value.status == 401


def test_a_node_that_no_one_wants_any_more_is_shut_out_at_its_next_request(superlink, home):
    key = some_key()
    wanted = {"device-1": node_public_key(key)}
    assert list(superlink.reconcile(wanted).values()) == ["device-1"]
    api = node(home, key)
    api.activate()
    assert api.pull() is None
    superlink.reconcile({})
    with pytest.raises(FleetRefused) as refused:
        api.pull()
    assert refused.value.status == 401


def test_a_node_key_that_was_shut_out_once_costs_nobody_else_their_place(superlink):
    keys = {f"device-{number}": node_public_key(some_key()) for number in (1, 2)}
    superlink.reconcile(keys)
    superlink.reconcile({"device-2": keys["device-2"]})
    assert list(superlink.reconcile(keys).values()) == ["device-2"]


def test_two_runs_one_after_the_other_reach_the_same_node(superlink, home):
    """Also: the run before is stopped, and a node's answers to it disturb nothing."""
    from flwr.app import ConfigRecord, Message, RecordDict

    from aggregator.rounds.transport import DeviceLink
    from edge_client.flower.node import EmbeddedNode

    key, stop = some_key(), threading.Event()
    superlink.reconcile({"device-1": node_public_key(key)})
    certificate = prepare_superlink(home).certificate.read_bytes()

    def echo(message, context):
        return Message(RecordDict({"payload": ConfigRecord(dict(message.content["payload"]))}), reply_to=message)

    runner = EmbeddedNode(straight(superlink_address(home), certificate), key, echo, stop)
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        import time

        for text in (b"first", b"second"):
            with superlink.run() as (grid, _):
                link = DeviceLink(grid, clock=time.time, sleep=time.sleep, batch=64)
                while not link.nodes():
                    time.sleep(0.05)
                got: list[bytes] = []
                exchange = link.exchange(
                    "query.roster",
                    {link.nodes()[0]: text},
                    lambda _, reply, got=got: got.append(reply.payload),
                    group="1",
                    timeout_s=60,
                )
                assert got == [text] and not exchange.failures
    finally:
        stop.set()
        thread.join()
    assert runner.status.messages == 2


def test_without_a_superlink_the_node_says_so_and_does_not_end(world, home):
    address = f"127.0.0.1:{world.free_port()}"
    api = FleetApi(straight(address, prepare_superlink(home).certificate.read_bytes()), some_key())
    with pytest.raises(FleetUnreachable, match=address):
        api.activate()


def test_its_secret_and_key_are_for_the_owner_alone_and_outlive_a_restart(tmp_path):
    home = ServerHome(tmp_path)
    files = prepare_superlink(home)
    before = files.secret.read_bytes(), files.private_key.read_bytes(), files.certificate.read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (files.secret, files.private_key)} == {0o600}
    prepare_superlink(home)
    assert (files.secret.read_bytes(), files.private_key.read_bytes(), files.certificate.read_bytes()) == before


def test_its_certificate_is_made_anew_before_it_runs_out(tmp_path):
    home = ServerHome(tmp_path)
    first = x509.load_pem_x509_certificate(prepare_superlink(home).certificate.read_bytes())
    later = datetime.now(UTC) + timedelta(days=320)
    second = x509.load_pem_x509_certificate(prepare_superlink(home, now=later).certificate.read_bytes())
    assert second.not_valid_after_utc - first.not_valid_after_utc > timedelta(days=300)


@pytest.mark.parametrize("version", ["1.41.0", "1.42.0", "1.41.3"])
def test_the_releases_of_flower_that_were_tested_are_taken(version):
    check_flower(version)


@pytest.mark.parametrize("version", ["1.40.0", "1.43.0", "2.0.0", "14.1", ""])
def test_any_other_release_of_flower_is_refused_with_what_to_do(version):
    with pytest.raises(InputError, match=r"pip install 'flwr>=1.41,<1.43'.*supernode"):
        check_flower(version)
