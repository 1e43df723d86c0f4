"""The relay: a device's node reaches SuperLink through the real door, as its own node and no other's."""

import socket
import subprocess
import threading
import time
from base64 import b64encode

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto import fleet_pb2, message_pb2
from flwr.proto.node_pb2 import Node

from aggregator.fleet.published import EnrolledNodes, PublishedNodes
from aggregator.rounds.superlink.client import SuperLink
from aggregator.rounds.superlink.process import prepare_superlink, superlink_command, superlink_environment
from aggregator.rounds.superlink.relay import (
    MAX_BODY_BYTES,
    Destination,
    Refused,
    RelayServicer,
    add_relay,
    check,
    check_sender,
)
from aggregator.rounds.superlink.runtime_client import SuperLinkLost
from aggregator.rounds.transport import DeviceLink
from edge_client.flower.fleet_api import FleetApi, FleetRefused, node_public_key
from edge_client.flower.node import EmbeddedNode, Pace
from edge_client.flower.transports import through_door
from edge_client.membership.channel import DoorChannel
from protos.fedge.fleet.v1.relay_pb2 import PushRequest, RelayRequest
from protos.fedge.fleet.v1.relay_pb2_grpc import RelayStub

PATIENCE_S = 120.0
KEY = node_public_key(ec.generate_private_key(ec.SECP384R1()))
OTHER = node_public_key(ec.generate_private_key(ec.SECP384R1()))


def request(path: str = "/v1/fleet/pull-messages", body: bytes = b"", key: bytes = KEY, **fields: str) -> RelayRequest:
    proof = {"public_key": b64encode(key).decode(), "timestamp": "2026-01-01T00:00:00+00:00", "signature": "c2ln"}
    return RelayRequest(path=path, body=body, **{**proof, **fields})


def admit(asked: RelayRequest, node_key: bytes | None = KEY) -> None:
    check(asked, node_key, size_bytes=len(asked.body), limits=MAX_BODY_BYTES)


def refusal(asked: RelayRequest, node_key: bytes | None = KEY) -> grpc.StatusCode:
    with pytest.raises(Refused) as refused:
        admit(asked, node_key)
    return refused.value.code


@pytest.mark.parametrize("route", sorted(MAX_BODY_BYTES))
def test_a_nodes_own_routes_pass_up_to_their_size(route):
    admit(request(f"/v1/fleet/{route}", bytes(MAX_BODY_BYTES[route])))
    oversized = request(f"/v1/fleet/{route}", bytes(MAX_BODY_BYTES[route] + 1))
    assert refusal(oversized) == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/pull-messages/",
        "/v1/fleet/pull-messages?x=1",
        "/v1/fleet/pull-messages HTTP/1.1\r\nx: y",
        "pull-messages",
        "",
    ],
)
def test_no_other_path_passes(path):
    assert refusal(request(path)) == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("enrolled", [OTHER, None])
def test_a_key_that_was_not_enrolled_for_the_device_does_not_pass(enrolled):
    assert refusal(request(), enrolled) == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("field", ["public_key", "timestamp", "signature"])
@pytest.mark.parametrize("text", ["a\r\nx-header: y", "\u00e4", "a" * 2000])
def test_a_proof_that_is_no_header_does_not_pass(field, text):
    assert refusal(request(**{field: text})) == grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_that_names_another_sender_does_not_pass():
    def pushed(sender: int) -> bytes:
        message = message_pb2.Message(metadata=message_pb2.Metadata(src_node_id=sender))
        return fleet_pb2.PushMessagesRequest(node=Node(node_id=7), messages_list=[message]).SerializeToString()

    def refused(body: bytes) -> grpc.StatusCode:
        with pytest.raises(Refused) as caught:
            check_sender(body)
        return caught.value.code

    check_sender(pushed(7))
    assert refused(pushed(8)) == grpc.StatusCode.PERMISSION_DENIED
    assert refused(b"\xff") == grpc.StatusCode.INVALID_ARGUMENT


def echo(message, context):
    return Message(RecordDict({"payload": ConfigRecord(dict(message.content["payload"]))}), reply_to=message)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def eventually(what: str, condition):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail(f"waited in vain for {what}")
    raise AssertionError


@pytest.fixture
def superlink(closed):
    """A SuperLink process beside the federation's door, and a client of it."""
    files = prepare_superlink(closed.home)
    port = free_port()
    process = subprocess.Popen(superlink_command(files, port), env=superlink_environment(files))
    client = SuperLink(f"127.0.0.1:{port}", files)

    def answers() -> bool:
        try:
            client.nodes()
        except SuperLinkLost:
            return False
        return True

    try:
        eventually("SuperLink", answers)
        destination = Destination(f"127.0.0.1:{port}", files.certificate)
        closed.publish()
        closed.services.append(
            add_relay(RelayServicer(destination, node_key=EnrolledNodes(closed.authority, closed.home).key))
        )
        yield client
    finally:
        client.close()
        process.kill()
        process.wait()


def node_key(home) -> ec.EllipticCurvePrivateKey:
    key = load_ssh_private_key(home.node_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def push(channel, home, *, size_bytes: int, pieces: list[bytes], route: str = "push-object"):
    key = b64encode(node_public_key(node_key(home))).decode()
    head = PushRequest(path=f"/v1/fleet/{route}", body_bytes=size_bytes, public_key=key, timestamp="x", signature="c2ln")
    stub = RelayStub(channel())
    return stub.Push(iter([head, *(PushRequest(data=data) for data in pieces)]), timeout=30)


def test_enrolled_devices_take_part_through_the_door_and_revoked_ones_do_not(superlink, closed):
    with closed.open():
        homes = {name: closed.enroll(name) for name in ("device-1", "device-2")}
        address = f"localhost:{closed.ports.fleet_port}"
        channels = {name: DoorChannel(home, address) for name, home in homes.items()}
        stop, published = threading.Event(), PublishedNodes(closed.home)
        nodes = {
            name: EmbeddedNode(through_door(channels[name]), node_key(home), echo, stop, Pace(retry_max_s=0.5))
            for name, home in homes.items()
        }
        threads = [threading.Thread(target=node.run) for node in nodes.values()]
        for thread in threads:
            thread.start()
        try:
            # Nobody told the rounds process of them: their first call through the door did.
            eventually("both nodes to be published", lambda: published().keys() == homes.keys())
            device_of = superlink.reconcile(published())
            assert set(device_of.values()) == set(homes)
            with superlink.run() as (grid, _):
                link = DeviceLink(grid, clock=time.time, sleep=time.sleep, batch=64)
                eventually("both nodes", lambda: len(link.nodes()) == 2)
                got = {}
                # Large enough to pass in pieces both ways.
                requests = {node: device.encode() * 50_000 for node, device in device_of.items()}
                link.exchange("query.roster", requests, lambda node, reply: got.update({node: reply.payload}), **WAIT)
                assert got == requests

                with pytest.raises(grpc.RpcError, match="the body ends before its size") as early:
                    push(channels["device-1"], homes["device-1"], size_bytes=10, pieces=[b"12345"])
                assert early.value.code() == grpc.StatusCode.INVALID_ARGUMENT
                with pytest.raises(grpc.RpcError, match="2 are still to come"):
                    push(channels["device-1"], homes["device-1"], size_bytes=2, pieces=[b"12345"])
                with pytest.raises(grpc.RpcError, match="at most 15728640 bytes"):
                    push(channels["device-1"], homes["device-1"], size_bytes=(15 << 20) + 1, pieces=[])
                with pytest.raises(grpc.RpcError, match="not one of a node's"):
                    push(channels["device-1"], homes["device-1"], size_bytes=2, pieces=[b"12"], route="get-run")

                thief = FleetApi(through_door(channels["device-1"]), node_key(homes["device-2"]))
                with pytest.raises(FleetRefused) as refused:
                    thief.activate()
                assert refused.value.status == 403

                closed.revoke("device-2")
                eventually("device-2 to be turned away", lambda: not nodes["device-2"].status.connected)
                assert "403" in nodes["device-2"].status.last_error
                assert published().keys() == {"device-1"}
                superlink.reconcile(published())
                assert [device_of[node] for node in link.nodes()] == ["device-1"]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for channel in channels.values():
                channel.close()


WAIT = {"group": "1", "timeout_s": PATIENCE_S}
