"""The body of `fedge device enroll`."""

import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from cli.homes import fedge_home


def enroll_here(
    join: str, home: Path | None, name: str | None, server_name: str | None, settings: Mapping[str, object]
) -> None:
    """Join with a join string, or one that stands in standard input (``-``), so that it need not show in a process list."""
    from edge_client.membership.enrollment import enroll
    from edge_client.settings import DeviceHome
    from fedge.identity import Invitation, check_device_id

    invitation = Invitation.from_text(sys.stdin.readline() if join == "-" else join)
    device_id = check_device_id(name if name is not None else default_name(platform.node()))
    folder = home if home is not None else fedge_home() / "devices" / device_id
    done = enroll(
        invitation, DeviceHome(folder.expanduser().absolute()), device_id, server_name=server_name, settings=settings
    )
    if done.warning is not None:
        print(f"fedge: warning: {done.warning}", file=sys.stderr)
    where = "" if home is None else f" --home {home}"
    print(f"{done.device_id} is a member of {done.federation}; its keys are in {folder}. Next: fedge device run{where}")


def default_name(host: str) -> str:
    """A device id from the machine's host name."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", host.split(".", maxsplit=1)[0]).strip("-")[:64] or "device"
