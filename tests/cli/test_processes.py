"""Background processes are ended exactly: all of a group, and never a stranger that has the same number."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cli.processes import Background, ProcessFolder, Started

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n",
]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path):
    processes = ProcessFolder(tmp_path / "run", tmp_path / "logs")
    yield processes
    processes.stop(processes.remembered(), grace_s=0.0)


def started(folder: ProcessFolder, command: list[str], name: str = "one") -> Started:
    process = folder.start(name, command, environment=dict(os.environ))
    eventually(process.output)
    return process


def test_what_was_started_is_remembered_and_ended(folder: ProcessFolder):
    process = started(folder, SLEEPER)
    assert folder.remembered() == [process.background] and process.background.is_alive()
    assert folder.stop(folder.remembered()) == []
    assert process.has_ended() and not process.background.is_alive() and folder.remembered() == []
    assert process.output() == "up\n"


def test_a_number_that_is_a_strangers_by_now_is_left_alone(folder: ProcessFolder):
    stranger = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE, start_new_session=True)
    try:
        ours = started(folder, SLEEPER).background
        reused = replace(ours, name="two", pid=stranger.pid)
        (folder.folder / "two.process.json").write_text(json.dumps(asdict(reused)))
        assert not reused.is_alive() and reused.members() == []
        folder.stop(folder.remembered())
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()


def test_children_whose_parent_was_killed_are_ended_by_their_mark(folder: ProcessFolder):
    process = started(folder, PARENT)
    child = int(process.output())
    os.kill(process.background.pid, signal.SIGKILL)
    eventually(process.has_ended)
    assert process.background.members() == [child]
    assert replace(process.background, mark="0" * 32).members() == []
    folder.stop(folder.remembered())
    eventually(lambda: process.background.members() == [])


def test_who_ignores_the_request_is_killed_and_named(folder: ProcessFolder):
    process = started(folder, STUBBORN)
    assert folder.stop(folder.remembered(), grace_s=0.2) == ["one"]
    eventually(process.has_ended)


def test_a_process_that_has_ended_counts_as_ended_before_anyone_collects_it(folder: ProcessFolder):
    process = folder.start("short", [sys.executable, "-c", "print('over')"], environment=dict(os.environ))
    eventually(lambda: not process.background.is_alive())
    eventually(process.has_ended)
    assert process.last_words() == "over"
    assert isinstance(folder.remembered()[0], Background)
