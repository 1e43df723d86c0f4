"""A device on this machine joins the fleet as any other does: with a token, through the door."""

import time

from aggregator.fleet.authority import Authority
from aggregator.fleet.enrollment_service import invitation
from aggregator.settings import ServerHome
from edge_client.membership.enrollment import enroll
from edge_client.settings import DeviceHome
from fedge.identity.tls import certificate_span

TOKEN_LIFE_S = 300.0
YOUNG_ENOUGH_S = 3600.0


def join_device(server: ServerHome, home: DeviceHome) -> bool:
    """Make the folder's device a member, unless it is one whose certificates last for a while; True where it joined anew.

    Raises a FedgeError where the door refuses or does not answer.
    """
    if _is_member(home, now=time.time()):
        return False
    settings = server.settings()
    address = f"127.0.0.1:{settings.join_port}"
    authority = Authority(server.authority)
    invited = invitation(authority, address, now=time.time(), lifetime_s=TOKEN_LIFE_S)
    enroll(invited, home, home.folder.name)
    return True


def _is_member(home: DeviceHome, *, now: float) -> bool:
    if not (home.settings_file.is_file() and home.tls_certificate.is_file()):
        return False
    start, end = certificate_span(home.tls_certificate.read_bytes())
    return start <= now < end - YOUNG_ENOUGH_S
