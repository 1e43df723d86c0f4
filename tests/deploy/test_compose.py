"""docker-compose.yml, read without an engine: real commands, nothing open beyond loopback, one volume a device."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from composed import interpolated
from sqlalchemy import make_url

from aggregator.processes import PARTS
from aggregator.settings import ServerSettings
from cli.assignments import assignments
from cli.local_server import _with
from edge_client.settings import DeviceSettings
from fedge.settings import parse_settings
from fedge.settings_text import as_toml, with_values

OURS = {"fedge-server", "fedge-workbench", "fedge-device"}


@pytest.fixture(scope="module")
def compose(root):
    return yaml.safe_load(interpolated((root / "docker-compose.yml").read_text(), {}))


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


def devices(services) -> list[str]:
    return sorted(name for name in services if re.fullmatch(r"device-\d+", name))


def fedge_commands(service) -> list[list[str]]:
    """The arguments of every call of fedge that a service makes: its command, or those in its shell line."""
    if service.get("entrypoint") == ["sh", "-c"]:
        (line,) = service["command"]
        parts = [shlex.split(part) for part in re.split(r"\|\||\|", line)]
        return [part[1:] for part in parts if part[0] == "fedge"]
    return [service["command"]]


def test_every_command_is_one_of_fedges(services, is_fedge_command):
    called = [command for service in services.values() if service["image"] in OURS for command in fedge_commands(service)]
    assert len(called) > 12
    for arguments in called:
        is_fedge_command(arguments)


def test_every_part_of_the_server_and_everything_around_it_is_there(services):
    parts = {
        service["command"][2]: name
        for name, service in services.items()
        if service.get("command", [])[:2] == ["server", "run"]
    }
    assert set(parts) == set(PARTS)
    assert all(services[name]["environment"]["FEDGE_PART"] == part for part, name in parts.items())
    assert {"init", "postgres", "prometheus", "grafana"} <= set(services)
    assert len(devices(services)) >= 4


def test_images_of_ours_are_built_from_targets_that_exist(services, root):
    for service in services.values():
        if "build" not in service:
            continue
        file = root / service["build"]["dockerfile"]
        target = service["build"].get("target")
        assert target is None or re.search(rf"^FROM \S+ AS {target}$", file.read_text(), re.MULTILINE)
    built = {service["image"] for service in services.values() if "build" in service}
    assert {service["image"] for service in services.values()} & OURS == built


def test_nothing_is_published_and_everything_listens_on_loopback(services):
    """The containers share the host's network: what a service listens on is what is open."""
    for name, service in services.items():
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), name
        assert service["network_mode"] in {"host", "none"}
    flags = services["prometheus"]["command"]
    assert "--web.listen-address=127.0.0.1:9090" in flags
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert services["postgres"]["network_mode"] == "none" and "listen_addresses=" in services["postgres"]["command"]
    assert ServerSettings().host == "127.0.0.1"
    assert DeviceSettings(device_id="d", fleet="a:1", central="a:2").api.host == "127.0.0.1"


def test_the_ports_that_are_taken_are_all_different(services, root):
    settings = ServerSettings()
    taken = [settings.fleet_port, settings.join_port, settings.central_port, settings.console_port, settings.superlink_port]
    taken += [9090, int(services["grafana"]["environment"]["GF_SERVER_HTTP_PORT"])]
    taken += [port for port, _ in device_ports(services)]
    assert len(set(taken)) == len(taken)


def device_ports(services) -> list[tuple[int, str]]:
    found = []
    for name in devices(services):
        (_, enroll) = fedge_commands(services[f"join-{name.removeprefix('device-')}"])
        given = assignments([enroll[enroll.index("--set") + 1]])
        assert enroll[enroll.index("--name") + 1] == name
        found.append((int(given["api.port"]), name))
    return found


def test_prometheus_asks_every_device_and_the_console(services, root):
    (devices_job, server_job) = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    asked = {target for config in devices_job["static_configs"] for target in config["targets"]}
    assert asked == {f"127.0.0.1:{port}" for port, _ in device_ports(services)}
    assert server_job["static_configs"][0]["targets"] == [f"127.0.0.1:{ServerSettings().console_port}"]


def test_settings_given_on_command_lines_are_settings(services, tmp_path):
    from aggregator.settings import ServerHome

    given = assignments([part.removeprefix("--set=") for part in services["init"]["command"] if part.startswith("--set=")])
    settings = _with(ServerHome(tmp_path), ServerSettings(), given)
    assert settings.rounds.n_min <= settings.rounds.cohort <= len(devices(services))
    url = make_url(settings.database or "")
    assert (url.get_backend_name(), url.username, url.database) == ("postgresql", "fedge", "fedge")
    # The very folder in which PostgreSQL puts its socket, in a volume that only the server's parts and PostgreSQL have.
    assert f"unix_socket_directories={url.query['host']}" in services["postgres"]["command"]
    assert {"POSTGRES_USER": "fedge", "POSTGRES_DB": "fedge"}.items() <= services["postgres"]["environment"].items()
    for port, name in device_ports(services):
        device = DeviceSettings(device_id=name, fleet="a:1", central="a:2")
        text = with_values(as_toml(device), {"api.port": port})
        assert parse_settings(DeviceSettings, text, source="device.toml").api.port == port


def test_keys_stay_with_their_owners(compose, services):
    """A device sees its own folder alone, and the server's folder is the server's, and the joining's, alone."""
    for name, service in services.items():
        mounted = {volume.split(":")[0] for volume in service["volumes"]}
        assert {each for each in mounted if not each.startswith("./")} <= set(compose["volumes"])
        if name in devices(services):
            assert mounted == {name}
        if "server" in mounted:
            assert service["image"] in {"fedge-server", "fedge-workbench"}
    assert {volume for volume in compose["volumes"] if volume.startswith("device-")} == set(devices(services))


def test_containers_of_ours_cannot_change_themselves_and_have_no_capability(services):
    for name, service in services.items():
        if service["image"] in OURS | {"prom/prometheus", "grafana/grafana"}:
            assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
            assert "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged") and "/var/run/docker.sock" not in str(service)


def test_what_a_service_waits_for_can_come_to_pass(services):
    for name, service in services.items():
        wanted = service.get("depends_on", [])
        for other in wanted:
            assert other in services, name
            condition = wanted[other]["condition"] if isinstance(wanted, dict) else "service_started"
            if condition == "service_completed_successfully":
                assert services[other]["restart"] == "no"
            if condition == "service_healthy":
                assert other == "postgres" or services[other]["image"] in {"fedge-server", "fedge-device"}


def test_files_that_are_mounted_exist(services, root: Path):
    for service in services.values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                source, _, mode = volume.split(":")
                assert (root / source).exists() and mode == "ro"


def test_no_secret_stands_in_the_file(root):
    text = (root / "docker-compose.yml").read_text()
    assert not re.search(r"(?i)(password|secret|token)\s*[:=]\s*[\"']?\w{4,}", text)
