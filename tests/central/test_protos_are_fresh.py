"""The committed Python of every .proto is what the compiler makes of it; protos/README.md says how."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "protos").glob("fedge/*/v1/*.proto"))


@pytest.mark.parametrize("proto", PROTOS, ids=[proto.stem for proto in PROTOS])
def test_generated_files_are_what_the_compiler_makes(proto, tmp_path):
    pytest.importorskip("grpc_tools", reason="grpcio-tools (the dev extra) is not installed")
    kinds = ["python", "pyi"]
    if re.search(r"^service ", proto.read_text(), flags=re.MULTILINE):
        kinds.append("grpc_python")
    outputs = [f"--{kind}_out={tmp_path}" for kind in kinds]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, str(proto.relative_to(ROOT))]
    subprocess.run(command, cwd=ROOT, check=True)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*"))
    assert len(made) == len(kinds)
    for path in made:
        assert (ROOT / path).exists(), f"{path} is not committed: see protos/README.md"
        assert (ROOT / path).read_bytes() == (tmp_path / path).read_bytes(), f"{path} is stale: see protos/README.md"


def test_every_rpc_has_messages_of_its_own_and_every_enum_starts_unspecified():
    from protos.fedge.central.v1 import central_pb2

    methods = central_pb2.DESCRIPTOR.services_by_name["Central"].methods
    types = [message.full_name for method in methods for message in (method.input_type, method.output_type)]
    assert len(set(types)) == len(types)
    for enum in central_pb2.DESCRIPTOR.enum_types_by_name.values():
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")
