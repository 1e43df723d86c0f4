"""Ports that are taken when the whole system is brought up on one machine."""

import socket
from pathlib import Path

from cli.local_fleet import LocalFleet, _fit_settings


def test_a_port_that_is_taken_is_replaced_and_told(tmp_path: Path) -> None:
    fleet, said = LocalFleet(tmp_path), list[str]()
    fleet.server.folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        fleet.server.settings_file.write_text(f"console_port = {taken}\n")
        _fit_settings(fleet, 4, said.append)
    port = fleet.server.settings().console_port
    assert port != taken
    assert f"port {taken} is taken: console_port in server.toml is {port} from now on" in said
