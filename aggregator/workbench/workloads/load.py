"""From a workload's name to its data. Each branch imports its own part only when it is asked for."""

from pathlib import Path

from aggregator.workbench.workloads.base import Workload
from fedge.errors import InputError

WORKLOADS = ("digits", "home", "clinc150", "csv")


def load_workload(name: str, *, seed: bytes, data_file: Path | None = None, devices: int = 32) -> Workload:
    """The workload ``name``, split by ``seed``. ``data_file``: the person's own file (csv), or a copy of clinc150's.

    ``devices`` is the size of the fleet; it matters where the test part carries the devices' styles (digits). Raises
    InputError for an unknown name, a file that cannot be used, or a file for a workload that reads none.
    """
    if devices < 1:
        raise InputError(f"{devices} devices cannot share a workload: ask for at least one")
    if name in ("digits", "home") and data_file is not None:
        raise InputError(
            f"workload {name!r} reads no data file, but {data_file} was given: leave it out or use --workload csv"
        )
    if name == "digits":
        from aggregator.workbench.workloads.digits import load_handwritten_digits

        return load_handwritten_digits(seed=seed, devices=devices)
    raise InputError(f"unknown workload {name!r}: use one of {', '.join(WORKLOADS)}")
