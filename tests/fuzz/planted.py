"""Decoders that are broken on purpose: a runner that misses these would find nothing anywhere."""

from table import Target


def breaks(data):
    """Raises what no decoder may raise, behind three bytes that only coverage leads to."""
    if data[:1] == b"f" and data[1:2] == b"e" and data[2:3] == b"d":
        raise KeyError("planted")


def hangs(data):
    while data[:1] == b"f":
        pass


def swells(data):
    if data[:1] == b"f":
        bytes(64 << 30)


def locked(data):
    """Refuses everything: a target whose seeds never get through tests nothing."""
    from fedge.errors import InputError

    raise InputError("planted")


TARGETS = {
    "planted.breaks": Target(decode=breaks, seeds=(b"",), runs=50_000),
    "planted.hangs": Target(decode=hangs, seeds=(b"",), runs=50_000),
    "planted.swells": Target(decode=swells, seeds=(b"",), runs=50_000),
    "planted.locked": Target(decode=locked, seeds=(b"",)),
}
