"""A container's health: whether the port of the part in FEDGE_PART takes connections. Sends nothing.

`rounds` listens nowhere: that it runs is all that can be seen from outside, and Docker sees it.
"""

import os
import socket
import sys
from pathlib import Path

from aggregator.settings import ServerSettings
from cli.homes import server_home

TIMEOUT_S = 5.0


def port_of(part: str, settings: ServerSettings) -> int | None:
    """Where a part listens, or None where it does not."""
    ports = {
        "door": settings.fleet_port,
        "central": settings.central_port,
        "console": settings.console_port,
        "superlink": settings.superlink_port,
        "rounds": None,
    }
    if part not in ports:
        raise SystemExit(f"FEDGE_PART is {part!r}: choose one of {', '.join(ports)}")
    return ports[part]


def main() -> None:
    """Exit code 0 where the part listens."""
    settings = server_home(Path(os.environ.get("FEDGE_HOME", "/data"))).settings()
    port = port_of(os.environ.get("FEDGE_PART", ""), settings)
    if port is None:
        return
    part_host = settings.console.host if os.environ.get("FEDGE_PART") == "console" else settings.host
    host = part_host if part_host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - compared, not bound
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except OSError as error:
        sys.exit(f"{host}:{port}: {error}")


if __name__ == "__main__":
    main()
