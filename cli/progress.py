"""The live view of a simulated run: a table of rounds with a progress bar, plain lines where there is no terminal."""

import sys
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from cli.console import PlainConsole
from sim.config import SimulationConfig
from sim.report.words import describe_attackers

# Rounds shown in the live table; the whole run is in rounds.csv and the report.
SHOWN = 20
HEADINGS = ("round", "cohort", "fallback", "device", "system", "central", "disagree", "certificate", "USD/1k", "all-cloud")


class Progress:
    """Receives a run's events (`sim.run.Observer`) and shows them; writes nothing but the terminal."""

    def __init__(self, config: SimulationConfig, *, quiet: bool) -> None:
        self._config = config
        self._console = PlainConsole(stderr=quiet)
        self._quiet = quiet
        self._headings = (*HEADINGS, "epsilon") if config.dp_noise_multiplier else HEADINGS
        self._rows: list[tuple[str, ...]] = []
        self._done = 0
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=self._console
        )
        self._task = self._bar.add_task("preparing", total=config.rounds)
        self._interactive = self._console.is_terminal and not quiet
        self._live = Live(self._view(), console=self._console, refresh_per_second=4, auto_refresh=self._interactive)

    def __enter__(self) -> "Progress":
        if self._interactive:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._interactive:
            self._live.update(self._view(), refresh=True)
            self._live.stop()

    def stage(self, text: str) -> None:
        """What is going on now, in a few words."""
        self._bar.update(self._task, description=text)
        if self._interactive:
            self._live.update(self._view())
        elif not self._quiet and not self._rows:
            self._console.print(text)

    def round_finished(self, entry: dict[str, Any]) -> None:
        """A round of the summary is complete."""
        row = _row(entry)
        if (spent := entry.get("privacy")) is not None:
            row = (*row, f"{spent['epsilon']:.3g}")
        if not self._interactive and not self._quiet:
            if not self._rows:
                self._console.print(_plain(self._headings), soft_wrap=True)
            self._console.print(_plain(row), soft_wrap=True)
        self._rows.append(row)
        self._done = entry["round"]
        self._bar.update(self._task, completed=self._done)
        if self._interactive:
            self._live.update(self._view())

    def interrupted(self, *, resumed: bool) -> None:
        """Say how to go on after Ctrl-C; before the first round's end there is nothing to go on from."""
        if self._rows:
            print(
                f"fedge: interrupted after round {self._done} of {self._config.rounds}; "
                "the same command with --resume continues it",
                file=sys.stderr,
            )
        elif resumed:
            print("fedge: interrupted before a further round was done; the same command continues it", file=sys.stderr)
        else:
            print("fedge: interrupted before the first round was done; the same command starts it again", file=sys.stderr)

    def conclude(self, summary: dict[str, Any]) -> None:
        """The result in a few lines."""
        last = summary["rounds"][-1]
        out = self._config.out
        local = 1.0 - last["fallback_rate"]
        self._console.print(
            f"\n{local:.1%} of queries no one trained on are answered on the device; "
            f"accuracy {last['accuracy']['system']:.1%} (central alone {last['accuracy']['central']:.1%})."
        )
        usd = last["usd_per_1k"]
        even = summary["break_even_round"]
        self._console.print(
            f"1,000 queries cost {usd['marginal']:.3f} USD marginal, {usd['loaded']:.3f} loaded, "
            f"{usd['all_cloud']:.3f} all-cloud; "
            + (f"break-even in round {even}." if even is not None else "no break-even in this run.")
        )
        self._console.print(_certificate_line(last, self._config))
        if (fared := last.get("policy")) is not None:
            self._console.print(_policy_line(fared))
        if (spent := summary["privacy"]) is not None:
            self._console.print(f"Differential privacy: {spent['verdict']}.")
        if summary["secagg"] != True:  # noqa: E712 ("demo" is true in a boolean sense, and must not pass for private)
            self._console.print(
                "Secure aggregation: "
                + ("a demonstration; this sum is not private." if summary["secagg"] == "demo" else "off (--plain).")
            )
        if (attackers := describe_attackers(summary)) is not None:
            self._console.print(attackers)
        self._console.print(f"Report: {out / 'report.html'}   numbers: {out / 'summary.json'}", soft_wrap=True)

    def _view(self) -> Group:
        table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
        for heading in self._headings:
            table.add_column(heading, justify="left" if heading == "certificate" else "right", no_wrap=True)
        for row in self._rows[-SHOWN:]:
            table.add_row(*row)
        return Group(table, self._bar)


def _certificate_line(last: dict[str, Any], config: SimulationConfig) -> str:
    bound = last["certified_risk"]
    if last["certificate"] == "none":
        return "No certificate: not enough probes agree with central to keep any query local, so everything escalates."
    known = ""
    if bound is not None:
        known = f": at most {bound:.1%} of local answers so far disagree with central ({config.confidence:.0%} confidence)"
    if last["certificate"] == "certified":
        return f"certified{known}."
    return (
        f"empirical: this release's threshold passed its test, the running bound is not yet at {config.max_risk:.0%}{known}."
    )


def _policy_line(fared: dict[str, Any]) -> str:
    stream = fared["stream"]
    limits = f"{stream['over_budget']} over budget and {stream['rate_limited']} over the rate in the last round."
    if not fared["pinned"]:
        return f"Policy: {limits}"
    before = fared["violation_rate_unconstrained"]
    compared = "" if before is None else f" (without the rules in training {before:.1%})"
    broken = f"{fared['violation_rate']:.1%} of pinned queries no one trained on break their rule{compared}"
    return f"Policy: {broken}; {limits}"


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    accuracy = entry["accuracy"]
    attempts = entry["attempts"]
    return (
        str(entry["round"]),
        f"{entry['survivors']}/{entry['cohort']}" + (f" x{attempts}" if attempts > 1 else ""),
        percent(entry["fallback_rate"]),
        percent(accuracy["device"]),
        percent(accuracy["system"]),
        percent(accuracy["central"]),
        percent(entry["local_disagreement"]),
        entry["certificate"],
        f"{entry['usd_per_1k']['marginal']:.3f}",
        f"{entry['usd_per_1k']['all_cloud']:.3f}",
    )


def _plain(row: tuple[str, ...]) -> str:
    return "  ".join(f"{cell:>11}" for cell in row)
