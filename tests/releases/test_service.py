"""The release service hands out the repository's files and nothing else."""

import grpc
import pytest

from aggregator.releases.service import CHUNK_BYTES
from protos.fedge.fleet.v1 import releases_pb2, releases_pb2_grpc


def fetch(server, path: str, offset: int = 0) -> bytes:
    stub = releases_pb2_grpc.ReleasesStub(server.door.channel)
    return b"".join(part.data for part in stub.Fetch(releases_pb2.FetchRequest(path=path, offset=offset), timeout=60))


def test_metadata_is_handed_out_from_any_offset(server):
    whole = (server.tuf.public / "metadata" / "1.root.json").read_bytes()
    assert fetch(server, "metadata/1.root.json") == whole
    assert fetch(server, "metadata/1.root.json", 100) == whole[100:]
    assert fetch(server, "metadata/1.root.json", len(whole)) == b""


def test_pieces_are_capped(server):
    path = server.tuf.public / "targets" / "files" / f"{'a' * 64}.{'b' * 64}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(3 * CHUNK_BYTES + 1))
    stub = releases_pb2_grpc.ReleasesStub(server.door.channel)
    request = releases_pb2.FetchRequest(path=f"targets/files/{'a' * 64}.{'b' * 64}")
    assert [len(part.data) for part in stub.Fetch(request, timeout=60)] == [CHUNK_BYTES] * 3 + [1]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../keys/release.key",
        "metadata/../../keys/release.key",
        "metadata/1.root.json/../../../keys/release.key",
        "metadata/%2e%2e/keys/release.key",
        "metadata/1.root.json\n",
        "metadata/1.root.json\0",
        "targets/files/../../../keys/release.key",
        "targets/channels/stable.json",
        "keys/release.key",
        "x" * 100_000,
    ],
)
def test_any_other_path_is_refused(server, path):
    with pytest.raises(grpc.RpcError) as refused:
        fetch(server, path)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_link_out_of_the_repository_is_not_followed(server):
    (server.tuf.public / "metadata" / "7.root.json").symlink_to(server.tuf.keys / "release.key")
    with pytest.raises(grpc.RpcError) as refused:
        fetch(server, "metadata/7.root.json")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_an_offset_beyond_the_end_is_refused(server):
    with pytest.raises(grpc.RpcError) as refused:
        fetch(server, "metadata/1.root.json", 10**9)
    assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
