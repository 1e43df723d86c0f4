"""Where data files come from: `$FEDGE_DATA`, the cache of earlier downloads, or the public source, each pinned by SHA-256.

A file counts by the hash of its decompressed content, so a gzip copy is as good as the original. Never trusts a file by its
name and never leaves half a download behind.
"""

import gzip
import hashlib
import io
import os
import tempfile
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

from fedge.errors import InputError

LARGEST_BYTES = 256 * 1024 * 1024
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Source:
    """A public file. ``path``: below `$FEDGE_DATA` and the cache (``.gz`` may follow); ``sha256``: of what is in it."""

    path: str
    url: str
    sha256: str


def find(source: Source, *, beside: Path | None = None) -> bytes:
    """The decompressed content of ``source``, from the folder ``beside``, `$FEDGE_DATA`, the cache, or its public address.

    Raises InputError where a copy was found but differs, or where none was found and the download failed.
    """
    places = [] if beside is None else [beside / Path(source.path).name]
    if folder := os.environ.get("FEDGE_DATA"):
        if not Path(folder).is_dir():
            raise InputError(f"FEDGE_DATA names {folder!r}, which is no folder: correct it or unset it")
        places.append(Path(folder) / source.path)
    cached = _cache_folder() / source.path
    for place in [*places, cached]:
        for candidate in (place, place.with_name(place.name + ".gz")):
            if candidate.is_file():
                return checked(read_decompressed(candidate), source, origin=str(candidate))
    content = checked(_download(source.url), source, origin=source.url)
    _write_atomically(cached, content)
    return content


def checked(content: bytes, source: Source, *, origin: str) -> bytes:
    """``content``, if it is what ``source`` pins. Raises InputError that names ``origin`` otherwise."""
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        name = Path(source.path).name
        raise InputError(
            f"{origin} is not the {name} that fedge knows (sha256 {found[:12]}..., not {source.sha256[:12]}...)"
        )
    return content


def read_decompressed(path: Path, *, largest: int = LARGEST_BYTES) -> bytes:
    """The content of ``path``, unpacked where it is gzip (told by its first bytes, not by its name).

    Raises InputError for a file that is absent, unreadable, damaged, or larger than ``largest`` bytes when unpacked.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(largest + 1)
        if packed[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(packed)) as unpacking:
                packed = unpacking.read(largest + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the path") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is a damaged gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(packed) > largest:
        raise InputError(f"{path} holds more than {largest >> 20} MiB: use a smaller part of it")
    return packed


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedge"


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 (fixed https addresses, pinned content)
            content: bytes = answer.read(LARGEST_BYTES + 1)
            return content
    except OSError as error:  # URLError, time-outs and broken connections are all OSError
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"cannot fetch {url} ({reason}): go online, or set FEDGE_DATA to a folder that has the file"
        ) from error


def _write_atomically(path: Path, content: bytes) -> None:
    """A reader sees the whole file or none. A cache that cannot be written costs the next run a download, not this one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
            part = Path(folder) / path.name
            part.write_bytes(content)
            part.replace(path)
    except OSError:
        return
