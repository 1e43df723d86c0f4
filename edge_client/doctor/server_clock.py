"""The server's clock, asked over the device's connection to the gateway.

It stands apart from `times` because it needs gRPC: the doctor imports it only where the gateway could be reached.
"""

import grpc

from edge_client.membership.channel import DoorChannel
from edge_client.settings import DeviceHome, DeviceSettings
from fedge.errors import FedgeError
from protos.fedge.fleet.v1 import enrolment_pb2, enrolment_pb2_grpc

TIMEOUT_S = 8.0


def server_time(home: DeviceHome, settings: DeviceSettings) -> float:
    """UNIX seconds, as the door says. Raises FedgeError where it does not."""
    door = DoorChannel(home, settings.fleet, server_name=settings.server_name)
    try:
        stub = enrolment_pb2_grpc.EnrolmentStub(door())  # type: ignore[no-untyped-call]  # generated code
        return float(stub.Revocations(enrolment_pb2.RevocationsRequest(), timeout=TIMEOUT_S).server_time_s)
    except grpc.RpcError as error:
        raise FedgeError(f"the door does not tell the time: {error}") from error
    finally:
        door.close()
