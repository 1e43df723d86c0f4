"""A download that breaks off goes on from the bytes that the device has, also after kill -9."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import grpc
import pytest

from aggregator.releases.service import ReleaseServicer
from edge_client.releases.tuf_source import SourceUnreachable
from fedge.errors import VerificationError
from protos.fedge.fleet.v1 import releases_pb2, releases_pb2_grpc

ROOT = Path(__file__).parents[2]
BEFORE_THE_BREAK = 120


class Breaking(ReleaseServicer):
    """Sends 120 bytes of one file and then ends, breaks off or stalls; notes the offsets that were asked for."""

    def __init__(self, repository: Path, digest: str, how: str) -> None:
        super().__init__(repository)
        self.digest, self.how, self.offsets = digest, how, []

    async def Fetch(self, request, context):
        if not request.path.endswith(self.digest):
            async for response in super().Fetch(request, context):
                yield response
            return
        self.offsets.append(request.offset)
        data = (self._repository / request.path).read_bytes()[request.offset :]
        if self.how == "well":
            yield releases_pb2.FetchResponse(data=data)
            return
        for start in range(0, BEFORE_THE_BREAK, 40):
            yield releases_pb2.FetchResponse(data=data[start : start + 40])
        if self.how == "stalls":
            await asyncio.sleep(3600)
        if self.how == "breaks":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the line is dead")


@pytest.fixture
def breaking(server, make_release):
    release = make_release()
    server.publish(release)
    service = Breaking(server.tuf.public, release.manifest.files["infer.onnx"], "well")
    server.open(lambda grpc_server: releases_pb2_grpc.add_ReleasesServicer_to_server(service, grpc_server))
    return release, service


@pytest.mark.parametrize("how", ["ends", "breaks"])
def test_a_download_that_broke_off_goes_on_where_it_was(server, tmp_path, breaking, how):
    release, service = breaking
    device, service.how = server.device(tmp_path / "device"), how
    for _ in range(2):
        with pytest.raises(SourceUnreachable):
            device.fetch(release.release_id, ())
    service.how = "well"
    pieces = device.fetch(release.release_id, ())
    assert pieces.files[service.digest] == release.files["infer.onnx"]
    assert service.offsets == [0, BEFORE_THE_BREAK, 2 * BEFORE_THE_BREAK]


def test_what_was_collected_is_not_believed(server, tmp_path, breaking):
    release, service = breaking
    device, service.how = server.device(tmp_path / "device"), "breaks"
    with pytest.raises(SourceUnreachable):
        device.fetch(release.release_id, ())
    (part,) = (tmp_path / "device" / "releases" / "downloads").glob("*.part")
    part.write_bytes(b"x" * BEFORE_THE_BREAK)
    service.how = "well"
    with pytest.raises(VerificationError):
        device.fetch(release.release_id, ())
    assert device.fetch(release.release_id, ()).files[service.digest] == release.files["infer.onnx"]
    assert service.offsets == [0, BEFORE_THE_BREAK, 0]


def test_a_killed_device_goes_on_from_the_bytes_on_its_disk(server, tmp_path, breaking):
    release, service = breaking
    server.device(tmp_path / "device")
    service.how = "stalls"
    code = f"""
        import grpc
        from pathlib import Path
        from edge_client.settings import DeviceHome
        from edge_client.releases.tuf_source import TufSource
        home = DeviceHome(Path({str(tmp_path / "device")!r}))
        channel = grpc.insecure_channel("127.0.0.1:{server.door.port}")
        TufSource(home, lambda: channel, "device-1").fetch({release.release_id!r}, ())
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=environment)
    try:
        folder, deadline = tmp_path / "device" / "releases" / "downloads", time.monotonic() + 60
        while sum(part.stat().st_size for part in folder.glob(f"*{service.digest}*.part")) < BEFORE_THE_BREAK:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    service.how = "well"
    device = server.device(tmp_path / "device")
    assert device.fetch(release.release_id, ()).files[service.digest] == release.files["infer.onnx"]
    assert service.offsets == [0, BEFORE_THE_BREAK]
    assert not list(folder.glob("*.part"))
