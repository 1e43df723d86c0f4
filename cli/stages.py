"""A line that says what is going on while something takes its time: a spinner on a terminal, plain lines elsewhere."""

import re
from types import TracebackType

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.console import PlainConsole


class Stages:
    """Call it with a few words whenever the next thing begins. Writes to standard error alone, so that JSON stays clean."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = PlainConsole(stderr=True)
        self._live = self._console.is_terminal and not quiet
        self._quiet = quiet
        self._shown = ""
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(), console=self._console
        )
        self._task = self._progress.add_task("starting")

    def __enter__(self) -> "Stages":
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._progress.update(self._task, visible=False)
            self._progress.stop()

    def __call__(self, text: str) -> None:
        """What is going on now."""
        if self._live:
            self._progress.update(self._task, description=text)
        elif not self._quiet and (heading := re.split(r": epoch", text)[0]) != self._shown:
            self._shown = heading
            self._console.print(heading, soft_wrap=True)
