"""Checkpoints of a simulated run: after each round the whole state, written beside the last one and then renamed.

A checkpoint folder holds what a real fleet would have on its disks (each device's SQLite database, the aggregator's state)
and the summary so far. A kill at any moment leaves either the old or the new checkpoint, never half of one.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedge.errors import InputError

STATE = "state"
FILES = "aggregator"
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One round's end: the aggregator's ``files`` by name, every device's database, and the summary's rounds so far."""

    config: str
    round_number: int
    clock: float
    files: Mapping[str, bytes]
    devices: tuple[bytes, ...]
    rounds: list[dict[str, Any]]


def save(out: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` into ``out``, replacing an older one only once the new one is complete on the disk."""
    root = out / STATE
    root.mkdir(parents=True, exist_ok=True)
    name = f"round-{checkpoint.round_number:05d}"
    temporary = root / f".{name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    (temporary / FILES).mkdir()
    for file, data in checkpoint.files.items():
        (temporary / FILES / file).write_bytes(data)
    with (temporary / "devices.bin").open("wb") as stream:
        for device in checkpoint.devices:
            stream.write(len(device).to_bytes(8, "big") + device)
    head = {
        "format": FORMAT,
        "config": checkpoint.config,
        "round": checkpoint.round_number,
        "clock": checkpoint.clock,
        "rounds": checkpoint.rounds,
    }
    (temporary / "checkpoint.json").write_text(json.dumps(head), encoding="utf-8")
    for path in (*(temporary / FILES).iterdir(), temporary / FILES, *temporary.iterdir(), temporary):
        _sync(path)
    final = root / name
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _sync(root)
    for old in root.glob("round-*"):
        if old != final:
            shutil.rmtree(old)


def load(out: Path) -> Checkpoint | None:
    """The newest complete checkpoint in ``out``, or None."""
    found = sorted((out / STATE).glob("round-*"))
    if not found:
        return None
    folder = found[-1]
    try:
        head = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
        stream = (folder / "devices.bin").read_bytes()
        files = {path.name: path.read_bytes() for path in sorted((folder / FILES).iterdir())}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"the checkpoint {folder} cannot be read ({error}): start the run anew without --resume") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise InputError(f"the checkpoint {folder} is not of format {FORMAT}, which this version reads: start the run anew")
    devices = []
    position = 0
    while position < len(stream):
        length = int.from_bytes(stream[position : position + 8], "big")
        devices.append(stream[position + 8 : position + 8 + length])
        position += 8 + length
    for name, kind in (("config", str), ("round", int), ("clock", float), ("rounds", list)):
        if type(head.get(name)) is not kind:
            raise InputError(f"the checkpoint {folder} lacks a usable {name!r}: start the run anew without --resume")
    return Checkpoint(head["config"], head["round"], head["clock"], files, tuple(devices), head["rounds"])


def clear(out: Path) -> None:
    """Forget any checkpoint in ``out``. Raises InputError where its ``state`` folder is not one that a run left."""
    folder = out / STATE
    strange = [
        path.name for path in folder.glob("*") if path.name != "keys" and not path.name.lstrip(".").startswith("round-")
    ]
    if strange:
        raise InputError(f"{folder} holds {strange[0]!r}, which no run wrote: give another --out")
    shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
