"""What a process finds on its own disk: the federation's state, checkpoints, device database values, totals of the ledger.

Files are damaged, cut off and carried from one version to another: reading them ends in one line, never in the middle of a
run.
"""

import json
import struct

import numpy as np
from program import Program, edited_bytes, edited_json
from table import Target, scratch

from aggregator.rounds.robust_sum import SumHistory
from aggregator.rounds.server_optimizer import OptimizerState
from aggregator.rounds.state import FederationState
from edge_client.store.device_store import open_memory, restore
from edge_client.store.labelled_queries import query_from_blob, query_to_blob, vector_from_blob, vector_to_blob
from fedge.costs.ledger import Kind, Payer, Totals
from fedge.routing import RunningBound
from sim.checkpoint import Checkpoint, load, save
from sim.config import SimulationConfig

STATE = FederationState(
    round_number=3,
    head={"head.bias": np.float32([0.5, 1.0]), "head.weight": np.ones((2, 2), np.float32)},
    optimizer=OptimizerState(np.zeros(6), np.ones(6)),
    temperature=1.5,
    release_id="ab" * 32,
    version=2,
    running=RunningBound(100, 4),
    threshold=0.8,
    probe_rate=0.1,
    certificate_state="certified",
    certificate_bound=0.04,
    history=SumHistory.begin(clip_norm=2.0, weight_cap=100),
).to_bytes()
CHECKPOINT = Checkpoint("{}", 2, 100.0, {"state": b"aggregator"}, (b"first", b"second"), [{"round": 1}])
OUT = scratch("checkpoint")
save(OUT, CHECKPOINT)
HEAD, DEVICES = (OUT / "state" / "round-00002" / name for name in ("checkpoint.json", "devices.bin"))
HEAD_BYTES, DEVICES_BYTES = HEAD.read_bytes(), DEVICES.read_bytes()
DUMPED = open_memory().dump()
ROWS = [{"payer": Payer.OPERATOR.value, "kind": next(iter(Kind)).value, "unit": "x", "quantity": 1.0, "amount_usd": 0.5}]


# Depth beyond the reader's recursion, where a length says that it may be read.
DEEP = struct.pack(">Q", 100_000) + b"[" * 100_000 + struct.pack(">Q", 0) * 2


def federation_state(data):
    """A stored state; after a first byte of 1 a program edits its head, whose length is made to fit again."""
    if data[:1] == b"\1":
        (length,) = struct.unpack(">Q", STATE[:8])
        head = json.dumps(edited_json(json.loads(STATE[8 : 8 + length]), Program(data[1:]))).encode()
        data = struct.pack(">Q", len(head)) + head + STATE[8 + length :]
    FederationState.from_bytes(data).to_bytes()


def checkpoint(data):
    """A checkpoint of which the head or the devices' file is edited."""
    program = Program(data)
    which = program.number(3)
    if which == 0:
        HEAD.write_bytes(json.dumps(edited_json(json.loads(HEAD_BYTES), program)).encode())
    elif which == 1:
        HEAD.write_bytes(edited_bytes(HEAD_BYTES, program))
    else:
        DEVICES.write_bytes(edited_bytes(DEVICES_BYTES, program))
    try:
        load(OUT)
    finally:
        HEAD.write_bytes(HEAD_BYTES)
        DEVICES.write_bytes(DEVICES_BYTES)


def stored_configuration(data):
    program = Program(data)
    if program.number(2):
        stored = text(program.rest())
    else:
        stored = json.dumps(edited_json(json.loads(SimulationConfig().to_json()), program))
    SimulationConfig().differences(stored)


def text(data):
    return data.decode("utf-8", "replace")


def query(data):
    query_from_blob(data)


def vector(data):
    vector_from_blob(data)


def device_store(data):
    """A saved device database, edited within its first pages, where the schema stands."""
    restore(edited_bytes(DUMPED[:4096], Program(data)) + DUMPED[4096:]).close()


def totals(data):
    Totals.from_rows(edited_json(ROWS, Program(data)))


TARGETS = {
    "storage.federation_state": Target(decode=federation_state, seeds=(STATE, b"\1", DEEP), max_len=1 << 17),
    "storage.checkpoint": Target(decode=checkpoint, seeds=(b"", b"\1", b"\2"), runs=250),
    "storage.configuration": Target(decode=stored_configuration, seeds=(b"", b"\1{}")),
    "storage.query": Target(decode=query, seeds=(query_to_blob("lights on"), query_to_blob(np.float32([0.0, 1.0])))),
    "storage.vector": Target(decode=vector, seeds=(vector_to_blob(np.float32([0.0, 1.0])),)),
    "storage.device_store": Target(decode=device_store, seeds=(b"",), runs=500),
    "storage.totals": Target(decode=totals, seeds=(b"",)),
}
