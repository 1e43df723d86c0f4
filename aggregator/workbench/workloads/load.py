"""From a workload's name to its data. Each branch imports its own part only when it is asked for."""

from pathlib import Path

from aggregator.workbench.workloads.base import Workload
from fedge.errors import InputError

WORKLOADS = ("digits", "home", "clinc150", "csv")


def load_workload(name: str, *, seed: bytes, data_file: Path | None = None, devices: int | None = None) -> Workload:
    """The workload ``name``, split by ``seed``. ``data_file``: the person's own file (csv), or a copy of clinc150's.

    ``devices`` is the size of the fleet: digits gives its styles to the test part (32 where left out), csv must have a query
    for each. Raises InputError for an unknown name, a file that cannot be used, or a file for a workload that reads none.
    """
    if devices is not None and devices < 1:
        raise InputError(f"{devices} devices cannot share a workload: ask for at least one")
    if name in ("digits", "home") and data_file is not None:
        raise InputError(
            f"workload {name!r} reads no data file, but {data_file} was given: leave it out or use --workload csv"
        )
    if name == "digits":
        from aggregator.workbench.workloads.digits import load_handwritten_digits

        return load_handwritten_digits(seed=seed, devices=devices or 32)
    if name == "home":
        from aggregator.workbench.workloads.home import load_home

        return load_home(seed=seed)
    if name == "clinc150":
        from aggregator.workbench.workloads.clinc150 import load_clinc150

        return load_clinc150(seed=seed, data_file=data_file)
    if name == "csv":
        from aggregator.workbench.workloads.csv_file import load_csv

        if data_file is None:
            raise InputError("workload 'csv' reads a file: give it with --data FILE (columns text, label and, if any, user)")
        return load_csv(data_file, seed=seed, devices=devices)
    raise InputError(f"unknown workload {name!r}: use one of {', '.join(WORKLOADS)}")
