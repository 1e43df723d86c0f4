"""The power management chip of a Raspberry Pi 5, read through ``vcgencmd pmic_read_adc``: volts and amperes of its rails.

The rails' sum leaves out the chip's own loss and what hangs on 5 V directly (USB, HATs): the figure is a lower bound of the
board's. A process is started for each look, so it is looked at seldom. Older boards have no such chip and give no figure.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from edge_client.power.base import SampledPower, SensorError

COMMAND = ("vcgencmd", "pmic_read_adc")
TIMEOUT_S = 5.0
PAUSE_S = 1.0
_LINE = re.compile(r"^\s*(?P<rail>\w+)_(?P<unit>[AV])\s+(?:current|volt)\(\d+\)=(?P<value>\d+(?:\.\d+)?)[AV]\s*$")


@dataclass(frozen=True, slots=True)
class Pmic:
    """The rails of which both volts and amperes are shown."""

    command: tuple[str, ...]

    def watts(self) -> float:
        """The sum of volts times amperes over the rails. Raises SensorError."""
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command, found on the path
                self.command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
            raise SensorError(f"{' '.join(self.command)} gave no answer: {error}") from error
        if done.returncode:
            raise SensorError(f"{' '.join(self.command)} ended with code {done.returncode}")
        return rails_w(done.stdout)


def rails_w(text: str) -> float:
    """Watts in the text that ``vcgencmd pmic_read_adc`` prints. Raises SensorError where no rail has both figures."""
    figures: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for line in text.splitlines():
        if match := _LINE.match(line):
            figures[match["unit"]][match["rail"]] = float(match["value"])
    rails = figures["A"].keys() & figures["V"].keys()
    if not rails:
        raise SensorError("pmic_read_adc names no rail with volts and amperes: only a Raspberry Pi 5 has this chip")
    return sum(figures["A"][rail] * figures["V"][rail] for rail in sorted(rails))


def pmic_sensors(command: Sequence[str] = COMMAND) -> list[SampledPower]:
    """The chip where ``vcgencmd`` is installed; whether it answers shows when it is asked."""
    program = shutil.which(command[0])
    if program is None:
        return []
    return [SampledPower("pmic", "board", " ".join(command), Pmic((program, *command[1:])), PAUSE_S)]
