"""docker-compose.yml runs: each service's very command as a process, real PostgreSQL and Prometheus, and a round."""

import importlib.util
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from composed import Composed, eventually, interpolated

SERVER = ("superlink", "door", "central", "rounds", "console")
DEVICES = ("device-1", "device-2", "device-3", "device-4")
DEBIANS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
FETCH = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=10).read().decode())"


def missing() -> str | None:
    """Why this machine cannot run it."""
    if os.geteuid() != 0:
        return "not root: no network namespace"
    if not DEBIANS or shutil.which("prometheus") is None or shutil.which("promtool") is None:
        return "Debian's postgresql and prometheus are not installed"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: fedge's extra `postgres`"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode != 0:
        return "network namespaces are not allowed here"
    return None


def postgres(composed: Composed) -> None:
    """What the image's entry point does: an empty cluster, the file's command, then its database. Not as root."""
    account = pwd.getpwnam("postgres")
    demoted = ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    given = composed.environment("postgres")
    places = composed.volumes("postgres")
    data, sockets = places["/var/lib/postgresql/data"], places["/run/postgresql"]
    for folder in (data, sockets):
        os.chown(folder, account.pw_uid, account.pw_gid)
    sockets.chmod(0o3777)
    method = f"--auth={given['POSTGRES_HOST_AUTH_METHOD']}"
    programs = DEBIANS[-1]
    made = composed.inside(
        *demoted, programs / "initdb", "-D", data, "-U", given["POSTGRES_USER"], "--encoding=UTF8", method, env=given
    )
    assert made.returncode == 0, made.stderr
    composed.services["postgres"]["environment"]["PGDATA"] = str(data)
    composed.start("postgres", *demoted)
    check = [composed.placed("postgres", part) for part in composed.services["postgres"]["healthcheck"]["test"][1:]]
    composed.healthy("postgres", *check)
    created = composed.inside("createdb", "-h", sockets, "-U", given["POSTGRES_USER"], given["POSTGRES_DB"])
    assert created.returncode == 0, created.stderr


@pytest.fixture(scope="module")
def composed(root: Path) -> Iterator[Composed]:
    if reason := missing():
        pytest.skip(reason)
    text = interpolated((root / "docker-compose.yml").read_text(), {"FEDGE_ROUND_PERIOD": "5"})
    with tempfile.TemporaryDirectory(prefix="fedge-") as name:  # short: a socket's path has 107 bytes at most
        folder = Path(name)
        folder.chmod(0o755)
        programs = folder / "bin"
        programs.mkdir()
        fedge = programs / "fedge"
        fedge.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n')
        fedge.chmod(0o755)
        (programs / "postgres").symlink_to(DEBIANS[-1] / "postgres")
        with Composed(yaml.safe_load(text)["services"], root, folder, programs) as running:
            postgres(running)
            running.run("init")
            for part in SERVER:
                running.start(part)
            for part in SERVER:
                running.healthy(part, sys.executable, root / "deploy/docker/healthy.py")
            for device in DEVICES:
                running.run(device.replace("device", "join"))
                running.start(device)
            running.start("prometheus")
            for device in DEVICES:
                running.healthy(device, "fedge", "device", "status", "--home", running.volumes(device)["/data"])
            yield running


def told(composed: Composed, *arguments: object) -> Any:
    done = composed.inside("fedge", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fetch(composed: Composed, url: str) -> str:
    return composed.inside(sys.executable, "-c", FETCH, url).stdout


def test_a_round_completes_and_stands_in_postgresql(composed: Composed) -> None:
    for port in range(8761, 8765):
        for text in ("turn off the lights in the kitchen", "what time is it", "play some music"):
            answer = told(composed, "ask", text, "--url", f"http://127.0.0.1:{port}")
            assert answer["answered_by"] in {"device", "central"}
    home = composed.volumes("console")["/data"]

    def finished() -> list[Any]:
        return [entry for entry in told(composed, "rounds", "list", "--home", home) if entry["state"] == "finished"]

    try:
        (first, *_) = eventually(finished, "a finished round")
    except AssertionError:
        pytest.fail(composed.log("rounds")[-1500:] + composed.log("device-1")[-1500:])
    assert first["survivors"] >= 3
    sockets = composed.volumes("console")["/run/postgresql"]
    query = "select count(*) from rounds where state = 'finished'"
    counted = composed.inside("psql", "-h", sockets, "-U", "fedge", "-d", "fedge", "-Atc", query)
    assert int(counted.stdout) >= 1, counted.stderr
    assert not list(home.rglob("aggregator.sqlite")), "the database is PostgreSQL's alone"


def test_prometheus_scrapes_every_target(composed: Composed) -> None:
    def query(expression: str) -> list[Any]:
        done = composed.inside("promtool", "query", "instant", "-o", "json", "http://127.0.0.1:9090", expression)
        return json.loads(done.stdout) if done.returncode == 0 else []

    eventually(lambda: len(query("up == 1")) == 5, "five targets that are up")
    eventually(lambda: query("fedge_queries_total"), "the devices' figures")
    eventually(lambda: query("fedge_rounds_total"), "the console's figures")
    rules = json.loads(fetch(composed, "http://127.0.0.1:9090/api/v1/rules"))["data"]["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def test_promtool_accepts_what_is_served_and_what_is_configured(composed: Composed) -> None:
    configuration = composed.volumes("prometheus")["/etc/prometheus"] / "prometheus.yml"
    checked = composed.inside("promtool", "check", "config", configuration)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for port in (8350, 8761):
        page = fetch(composed, f"http://127.0.0.1:{port}/metrics")
        assert "fedge_" in page
        done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_stores_tests_pass_on_this_postgresql(composed: Composed, root: Path) -> None:
    sockets = composed.volumes("console")["/run/postgresql"]
    url = f"postgresql://fedge@/fedge?host={sockets}"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(root / "tests/store")]
    environment = {**composed.environment("console"), "FEDGE_TEST_POSTGRES_URL": url}
    done = composed.inside(*command, env=environment)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-3000:]
