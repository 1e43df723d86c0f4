"""The first loading of an unknown model, in a process with limits, before the agent loads it itself.

Checks on the file (`fedge.release.check_model`) cannot see all that a runtime computes when it loads one. What takes too
much memory or time there ends a process that nobody misses, not the agent. Costs about as much as starting Python, once for
each new graph. A graph that passed is remembered: what loading it takes hangs on its nodes, shapes and small constants, not
on the numbers in its weights, which alone change from round to round.
"""

import hashlib
import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from fedge.errors import FedgeError, VerificationError

MEMORY_MIB = 512
"""Beyond what Python and onnxruntime take themselves."""
CPU_S = 60
WALL_S = 300.0
"""Far more than any model takes: a machine that is busy must not give a good release up."""
_REMEMBERED = 64
_SMALL = 64
"""Constants of up to so many elements may be shapes, ranges or sizes, so they count in full."""
_WEIGHT_TYPES = (TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8)
_SKIPPED = b"Exception during constant folding"
"""What onnxruntime says of a constant that it cannot compute within the limits: the agent, without limits, would try."""

_PROGRAM = """
import sys
import onnxruntime
memory, cpu = int(sys.argv[1]) << 20, int(sys.argv[2])
models = []
while size := int.from_bytes(sys.stdin.buffer.read(8), "little"):
    models.append(sys.stdin.buffer.read(size))
try:
    import resource
    with open("/proc/self/statm") as file:
        present = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (present + memory, present + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, OSError, ValueError):
    pass  # not a Linux machine: time alone is bounded
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 2  # it goes on without a constant for which memory does not do, and says so as a warning
options.enable_cpu_mem_arena = False
for model in models:
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
"""


class TrialFailedError(FedgeError):
    """The trial itself could not be made; the model may be good, and a later try may tell."""


class LoadingTrial:
    """Loads models in a process with limits. Safe between threads."""

    def __init__(self, *, memory_mib: int = MEMORY_MIB, cpu_s: int = CPU_S, wall_s: float = WALL_S) -> None:
        self._memory_mib = memory_mib
        self._cpu_s = cpu_s
        self._wall_s = wall_s
        self._passed: dict[bytes, None] = {}
        self._lock = threading.Lock()

    def check(self, models: Sequence[bytes]) -> None:
        """Load those models that did not pass yet.

        Raises VerificationError where one cannot be loaded within the limits, TrialFailedError where that cannot be told.
        """
        with self._lock:
            unknown = {digest: model for model in models if (digest := _graph_sha256(model)) not in self._passed}
            if not unknown:
                return
            self._load(list(unknown.values()))
            self._passed |= dict.fromkeys(unknown)
            while len(self._passed) > _REMEMBERED:
                self._passed.pop(next(iter(self._passed)))

    def _load(self, models: Sequence[bytes]) -> None:
        given = b"".join(len(model).to_bytes(8, "little") + model for model in models) + bytes(8)
        # Isolated: no file of the working folder or the person's is imported.
        command = [sys.executable, "-I", "-c", _PROGRAM, str(self._memory_mib), str(self._cpu_s)]
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and program, no shell
                command, input=given, capture_output=True, timeout=self._wall_s, env=environment, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TrialFailedError(f"the model cannot be tried in a process of its own: {error}") from None
        if done.returncode or _SKIPPED in done.stderr:
            raise VerificationError(
                f"the model cannot be loaded within {self._memory_mib} MiB and {self._cpu_s} s of CPU: {_reason(done)}"
            )


def _graph_sha256(model: bytes) -> bytes:
    """Return the SHA-256 of a model without the numbers of its large weights, whose shapes and types stay."""
    try:
        graph = onnx.load_model_from_string(model)
    except DecodeError:  # the trial says so
        return hashlib.sha256(model).digest()
    for tensor in graph.graph.initializer:
        if tensor.data_type in _WEIGHT_TYPES and math.prod(tensor.dims) > _SMALL and tensor.raw_data:
            tensor.raw_data = b""
    return hashlib.sha256(graph.SerializeToString()).digest()


def _reason(done: "subprocess.CompletedProcess[bytes]") -> str:
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}"
    lines: list[str] = []
    with suppress(UnicodeDecodeError):
        lines = done.stderr.decode("utf-8").strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {done.returncode}"
