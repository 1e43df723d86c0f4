"""The official SuperNode as the other way to take part: the bridge, the participant's socket, and the whole of it."""

import io
import os
import threading
import time
import zipfile

import pytest

from edge_client.flower.participant_socket import RemoteParticipant, serve_participant
from edge_client.flower.supernode import is_without_code
from edge_client.refusal import SessionRefused

SLOW = "FEDGE_SLOW_TESTS"
PROJECT = """
[project]
name = "fedge"
version = "1.0.0"
{extra}
[tool.flwr.app]
publisher = "fedge"
[tool.flwr.app.components]
serverapp = "a:b"
clientapp = "{app}"
"""


def bundle(*, app: str = "edge_client.flower.app:app", extra: str = "", files: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("pyproject.toml", PROJECT.format(app=app, extra=extra))
        for name, text in (files or {}).items():
            archive.writestr(name, text)
    return stream.getvalue()


def test_the_bundle_of_our_own_rounds_is_without_code():
    from aggregator.rounds.superlink.client import _bundle

    assert is_without_code(_bundle()) and is_without_code(bundle())


@pytest.mark.parametrize(
    "shipped",
    [
        bundle(files={"edge_client/flower/app.py": "import os"}),
        bundle(files={"pyproject.toml.py": ""}),
        bundle(app="os:system"),
        bundle(extra='dependencies = ["evil"]'),
        b"",
        b"PK",
    ],
)
def test_any_other_bundle_is_not_handed_on(shipped):
    assert not is_without_code(shipped)


class Steps:
    """Says what it was asked; refuses and fails on request."""

    def check_in(self, payload):
        if payload == b"refuse":
            raise SessionRefused("not now")
        if payload == b"fail":
            raise ValueError("a secret of the device's inside")
        return b"check_in " + payload

    def roster(self, payload):
        return b"roster " + payload

    def shares(self, payload):
        return b"shares " + payload, None if payload == b"complain" else bytes(5_000_000)

    def consistency(self, payload):
        return b"consistency " + payload

    def unmask(self, payload):
        return b"unmask " + payload


@pytest.fixture
def remote(tmp_path):
    path, stop = tmp_path / "p.sock", threading.Event()
    thread = threading.Thread(target=serve_participant, args=(Steps(), path), kwargs={"stop": stop})
    thread.start()
    while not path.exists():
        time.sleep(0.01)
    yield RemoteParticipant(path)
    stop.set()
    thread.join()


def test_every_step_reaches_the_participant_and_its_answer_comes_back(remote):
    for step in ("check_in", "roster", "consistency", "unmask"):
        assert getattr(remote, step)(b"x") == f"{step} x".encode()
    assert remote.shares(b"x") == (b"shares x", bytes(5_000_000))
    assert remote.shares(b"complain") == (b"shares complain", None)


def test_a_refusal_keeps_its_words_and_an_error_only_its_kind(remote):
    with pytest.raises(SessionRefused, match=r"^not now$"):
        remote.check_in(b"refuse")
    with pytest.raises(SessionRefused, match=r"^the device refused: ValueError$"):
        remote.check_in(b"fail")
    assert remote.check_in(b"x") == b"check_in x"


def test_without_an_agent_it_refuses(tmp_path):
    with pytest.raises(SessionRefused, match="agent does not answer"):
        RemoteParticipant(tmp_path / "p.sock").check_in(b"x")


@pytest.mark.skipif(SLOW not in os.environ, reason=f"starts an official SuperNode, a minute or more: set {SLOW}=1")
def test_a_round_completes_with_an_official_supernode_among_embedded_nodes(world, processes):
    from aggregator.rounds.superlink.process import SuperLinkFiles, superlink_address
    from aggregator.settings import ServerHome
    from aggregator.store import Database
    from edge_client.flower.supernode import run_supernode
    from edge_client.flower.transports import straight
    from edge_client.settings import DeviceHome

    folder = processes.folder
    world.make_folder(folder, devices=3, n_min=3, phase_timeout_s=90.0)
    processes.superlink()
    processes.rounds()
    stop = threading.Event()
    threads = [world.start_node(folder, f"device-{number}", stop=stop)[1] for number in (1, 2)]
    home = ServerHome(folder)
    way = straight(superlink_address(home), SuperLinkFiles(home.superlink).certificate.read_bytes())
    threads.append(
        threading.Thread(
            target=run_supernode,
            args=(way, DeviceHome(folder / "device-3"), world.participant(folder, "device-3")),
            kwargs={"api_port": world.free_port(), "stop": stop},
        )
    )
    threads[-1].start()

    def finished():
        if not (folder / "aggregator.sqlite").exists():
            return None
        with Database.open(f"sqlite:///{folder / 'aggregator.sqlite'}") as database:
            return next(iter(database.rounds()), None)

    try:
        row = processes.wait_for("a round", finished, patience_s=400.0)
        assert (row.state, row.cohort, row.survivors) == ("finished", 3, 3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
