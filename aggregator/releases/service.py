"""The door's release service: files of the TUF repository by path, and no other file of this machine.

It signs nothing and decides nothing: what a device may believe follows from TUF's signatures alone, whoever hands the bytes
over. Paths are matched against the few shapes that a repository has before they touch the disk.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import grpc

from protos.fedge.fleet.v1 import releases_pb2, releases_pb2_grpc

CHUNK_BYTES = 256 * 1024
_PATHS = re.compile(
    r"metadata/(?:[0-9]{1,10}\.(?:root|targets|snapshot)|timestamp)\.json"
    r"|targets/(?:files|signatures)/[0-9a-f]{64}\.[0-9a-f]{64}"
    r"|targets/channels/[0-9a-f]{64}\.[a-z]{1,32}\.json"
)


class ReleaseServicer(releases_pb2_grpc.ReleasesServicer):
    """Hands out what stands in ``repository`` (`TufRepository.public`)."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    async def Fetch(  # noqa: N802 - the name in releases.proto
        self,
        request: releases_pb2.FetchRequest,
        context: "grpc.aio.ServicerContext[releases_pb2.FetchRequest, releases_pb2.FetchResponse]",
    ) -> AsyncIterator[releases_pb2.FetchResponse]:
        """The file from the offset on, in pieces."""
        if not _PATHS.fullmatch(request.path):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such path in a release repository")
        try:
            file = await asyncio.to_thread(_open, self._repository / request.path)
        except OSError:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such file")
        with file:
            if request.offset > os.fstat(file.fileno()).st_size:
                await context.abort(grpc.StatusCode.OUT_OF_RANGE, "the file ends before that offset")
            file.seek(request.offset)
            while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield releases_pb2.FetchResponse(data=data)


def add_releases(server: grpc.aio.Server, repository: Path) -> None:
    """Register the service with a door."""
    releases_pb2_grpc.add_ReleasesServicer_to_server(ReleaseServicer(repository), server)  # type: ignore[no-untyped-call]


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
