"""What looking up a data file promises: the pinned content from wherever it is, or one clear line."""

import gzip
import hashlib

import pytest

from aggregator.workbench.workloads.data import Source, find, read_decompressed
from fedge.errors import InputError

CONTENT = b"text,label\n" * 100


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A source whose public address is a file in ``tmp_path``; the cache is empty, FEDGE_DATA unset."""
    monkeypatch.delenv("FEDGE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    public = tmp_path / "public.csv"
    public.write_bytes(CONTENT)
    return Source(path="toy/data.csv", url=public.as_uri(), sha256=hashlib.sha256(CONTENT).hexdigest())


def test_a_download_is_verified_cached_and_not_repeated(source, tmp_path):
    assert find(source) == CONTENT
    (tmp_path / "public.csv").unlink()
    assert find(source) == CONTENT
    assert [path.name for path in (tmp_path / "cache" / "fedge" / "toy").iterdir()] == ["data.csv"]


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_the_named_folder_comes_first_plain_or_packed(source, tmp_path, monkeypatch, name):
    folder = tmp_path / "data" / "toy"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(gzip.compress(CONTENT) if name.endswith(".gz") else CONTENT)
    monkeypatch.setenv("FEDGE_DATA", str(tmp_path / "data"))
    assert find(source) == CONTENT
    assert not (tmp_path / "cache").exists(), "nothing was downloaded"


def test_a_download_that_differs_is_refused_and_not_kept(source, tmp_path):
    (tmp_path / "public.csv").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"is not the data\.csv that fedge knows"):
        find(source)
    assert not (tmp_path / "cache").exists()


def test_a_copy_that_differs_is_refused_and_named(source, tmp_path, monkeypatch):
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "data.csv").write_bytes(b"tampered")
    monkeypatch.setenv("FEDGE_DATA", str(tmp_path / "data"))
    with pytest.raises(InputError, match=r"toy/data\.csv is not"):
        find(source)


def test_without_a_copy_and_offline_the_line_says_what_to_do(source, tmp_path):
    (tmp_path / "public.csv").unlink()
    with pytest.raises(InputError, match=r"cannot fetch file:.*: go online, or set FEDGE_DATA") as caught:
        find(source)
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_costs_nothing_else(source, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    assert find(source) == CONTENT


def test_a_data_folder_that_is_none_is_refused(source, monkeypatch, tmp_path):
    monkeypatch.setenv("FEDGE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="which is no folder"):
        find(source)


def test_damaged_absent_and_oversized_files_are_refused(tmp_path):
    damaged = tmp_path / "damaged.gz"
    damaged.write_bytes(gzip.compress(CONTENT)[:-12])
    with pytest.raises(InputError, match="damaged gzip"):
        read_decompressed(damaged)
    with pytest.raises(InputError, match="does not exist"):
        read_decompressed(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_decompressed(tmp_path)
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(4 << 20)))
    with pytest.raises(InputError, match="more than 1 MiB"):
        read_decompressed(bomb, largest=1 << 20)
