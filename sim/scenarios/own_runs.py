"""Runs of a scenario's own: what no recording can show is played, with the recorded run's parameters and the real loop.

They are played in a folder that goes afterwards; what is left is the figures that the scenario takes from them.
"""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from aggregator.workbench.device_model import DeviceModel
from fedge.errors import InputError
from sim.config import SimulationConfig, named_contents
from sim.days import Alter, Observer, Watch, unaltered
from sim.preparation import Preparation
from sim.record import RunRecord
from sim.run import simulate

LEAST_ROUNDS = 2
FILES = ("data", "policy")
Observe = Callable[[str, SimulationConfig], AbstractContextManager[Observer]]
"""Shows a run that is about to be played under this title."""


def same_run(
    record: RunRecord, *, data: Path | None, policy: Path | None, prices: Path | None, out: Path
) -> SimulationConfig:
    """The recorded run's parameters with other prices and another folder.

    Raises InputError for a file that is not the one that the run was played with, and for a run that is too short.
    """
    files: Mapping[str, Path | None] = {"data": data, "policy": policy}
    known = {field.name for field in fields(SimulationConfig)} - {*FILES, "out", "prices"}
    values = {name: value for name, value in record.parameters.items() if name in known}
    for name in FILES:
        wanted, path = record.parameters.get(name), files[name]
        given = None if path is None else named_contents(path)
        if _sha256(wanted) != _sha256(given):
            hint = f"give the same file with --{name}" if wanted else f"leave --{name} out"
            raise InputError(f"the recorded run was played with --{name} {wanted or 'left out'}: {hint}, or --recorded-only")
    try:
        config = SimulationConfig(**values, data=data, policy=policy, prices=prices, out=out).checked()
    except TypeError as error:
        raise InputError(f"the parameters in record.json cannot be used ({error}): play the run again") from None
    if config.rounds < LEAST_ROUNDS:
        raise InputError(
            f"the recorded run has {config.rounds} round: scenarios with runs of their own need {LEAST_ROUNDS}; "
            "give --recorded-only for the others"
        )
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRuns:
    """Plays runs in ``config.out`` with one ``preparation``, each shown through ``observe``."""

    config: SimulationConfig
    preparation: Preparation
    observe: Observe

    def play(
        self,
        title: str,
        *,
        name: str,
        rounds: int,
        model: DeviceModel | None = None,
        after: str | None = None,
        new_base: bool = False,
        alter: Alter = unaltered,
        watch: Watch | None = None,
    ) -> dict[str, Any]:
        """The summary of a run of ``rounds`` in all; ``after`` names an earlier run that it goes on from."""
        config = replace(self.config, out=self.folder(name), rounds=rounds)
        prepared = self.preparation if model is None else replace(self.preparation, model=model)
        if after is not None:
            shutil.copytree(self.folder(after), config.out)
        with self.observe(title, config) as observer:
            return simulate(
                config,
                observer=observer,
                resume=after is not None,
                preparation=prepared,
                alter=alter,
                watch=watch,
                new_base=new_base,
            )

    def folder(self, name: str) -> Path:
        """Where the run of this name lies."""
        return self.config.out / name


def _sha256(contents: object) -> str | None:
    """Of a file as `SimulationConfig.parameters` describes it: the name does not matter."""
    return contents.rpartition("sha256:")[2] if isinstance(contents, str) else None
