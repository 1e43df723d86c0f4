"""Telling systemd that the agent is ready, or stopping: one datagram to the socket that NOTIFY_SOCKET names, if any."""

import os
import socket


def notify(state: str) -> None:
    """Send ``state`` ("READY=1", "STOPPING=1"). Without systemd, or where it does not listen, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or address[0] not in "/@":
        return
    if address[0] == "@":  # Linux's abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            notifier.connect(address)
            notifier.sendall(state.encode())
        except OSError:
            return
