"""`fedge rounds watch`: the round at hand as a line of time in the terminal, or as one JSON object a line.

Reads the server's database again and again and writes nothing but the terminal. It goes on when the server is restarted, and
ends with Ctrl-C.
"""

import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.homes import ServerHomeOption, open_server
from fedge.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from aggregator.settings import ServerHome
    from aggregator.store import Controls, Database, EventRow, PhaseRow, RecordRow, RoundRow

POLL_S = 0.5
EVENTS_SHOWN, LEFT_SHOWN, ROUNDS_SHOWN, BAR_CELLS = 6, 8, 5, 14


def watch(
    home: ServerHomeOption = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: events and phases, as they change.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Show how it stands now, and end.")] = False,
) -> None:
    """The round at hand while it goes: its phases, how many reported and how many are needed, who left and why."""
    with open_server(home) as (server, database):
        if not once:
            _expect_running(server)
        signed = SignedSums(server.trust)
        try:
            if json_output:
                for line in stream(database, once=once):
                    print(json.dumps(line), flush=True)
            else:
                _show(database, signed, once=once)
        except KeyboardInterrupt:
            return


def _expect_running(server: "ServerHome") -> None:
    """Raises InputError where nothing could ever be seen. SuperLink stands on loopback of the rounds' machine."""
    from fedge.errors import InputError

    try:
        socket.create_connection(("127.0.0.1", server.settings().superlink_port), timeout=5.0).close()
    except OSError:
        raise InputError(
            f"no server runs in {server.folder}: start it with fedge up or fedge server run all; "
            "fedge rounds watch --once shows how it stood"
        ) from None


class SignedSums:
    """Whether the round key signed the sums of a round. ``trust``: the file that names the key."""

    def __init__(self, trust: "Path") -> None:
        self._trust = trust

    def of(self, records: "Sequence[RecordRow]") -> str:
        """In words: how many sums there are, and whether all their signatures hold."""
        from fedge.errors import FedgeError
        from fedge.identity import TrustRoot
        from fedge.secagg import MessageError, read_record

        if not records:
            return "no sum"
        try:
            key = TrustRoot.from_bytes(self._trust.read_bytes()).round_key
        except (OSError, FedgeError):
            return f"{len(records)}, key not at hand"
        try:
            for record in records:
                read_record(record.record, key)
        except MessageError:
            return f"{len(records)}, SIGNATURE INVALID"
        return f"{len(records)} signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the store says at one moment."""

    at: float
    controls: "Controls"
    phases: "Sequence[PhaseRow]"
    events: "Sequence[EventRow]"
    left: "Sequence[EventRow]"
    rounds: "Sequence[RoundRow]"
    signed: Mapping[int, str]


@dataclass(slots=True)
class Stream:
    """What is new since the last look: events after the newest that was told, phases that changed."""

    after: int = 0
    round_number: int = 0
    told: dict[int, "PhaseRow"] = field(default_factory=dict)

    def news(self, database: "Database") -> Iterator[dict[str, Any]]:
        """One object for each."""
        happenings = database.happenings
        newest = happenings.newest_round()
        # The round before once more: its last phases may have ended since.
        for number in sorted({self.round_number or newest, newest}):
            for phase in happenings.phases(number):
                if self.told.get(phase.id) != phase:
                    self.told[phase.id] = phase
                    yield {"type": "phase", **asdict(phase)}
        if newest != self.round_number:
            self.told = {number: phase for number, phase in self.told.items() if phase.round == newest}
            self.round_number = newest
        while events := happenings.events(after=self.after):
            for event in events:
                self.after = event.id
                yield {"type": "event", **asdict(event), "detail": dict(event.detail)}


def stream(database: "Database", *, once: bool) -> Iterator[dict[str, Any]]:
    """The controls first, then everything as it changes; of what is past, the newest round's phases and a few events."""
    yield {"type": "controls", **asdict(database.controls.get())}
    latest = database.happenings.latest_events(EVENTS_SHOWN)
    told = Stream(after=latest[-1].id - 1 if latest else 0)
    while True:
        with _patient(once=once):
            yield from told.news(database)
        if once:
            return
        time.sleep(POLL_S)


@contextmanager
def _patient(*, once: bool) -> Iterator[None]:
    """A database that restarts comes back: the next look sees what was missed."""
    from aggregator.store import StoreError

    try:
        yield
    except StoreError:
        if once:
            raise


def look(database: "Database", signed: SignedSums, *, at: float) -> View:
    """How it stands."""
    happenings, rounds = database.happenings, database.latest_rounds(ROUNDS_SHOWN)
    return View(
        at=at,
        controls=database.controls.get(),
        phases=happenings.phases(happenings.newest_round()),
        events=[event for event in happenings.latest_events(4 * EVENTS_SHOWN) if event.kind != "device.left"][:EVENTS_SHOWN],
        left=happenings.latest_events(LEFT_SHOWN, kinds=("device.left",)),
        rounds=rounds,
        signed={row.round: signed.of(database.records_of(row.round)) for row in rounds},
    )


def _show(database: "Database", signed: SignedSums, *, once: bool) -> None:
    from rich.live import Live

    from cli.console import PlainConsole

    console = PlainConsole()
    if once:
        console.print(render(look(database, signed, at=time.time())))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            with _patient(once=once):
                live.update(render(look(database, signed, at=time.time())), refresh=True)
            time.sleep(POLL_S)


def render(view: View) -> "RenderableType":
    """The view as text, newest attempt of the round at hand first in bars, then events and the last rounds."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(_headline(view), style="bold")]
    if view.controls.state != "running":
        said = f"Rounds are {view.controls.state} (by {view.controls.by}): none begins."
        parts.append(Text(printable(said), style="yellow"))
    if shown := _attempt(view.phases):
        table = Table(box=None, pad_edge=False, padding=(0, 1))
        for heading in ("phase", "", "seconds", "reported"):
            table.add_column(heading, justify="right" if heading == "seconds" else "left", no_wrap=True)
        for phase in shown:
            style = "green" if phase.finished is not None else "yellow"
            if phase.finished is not None and phase.reported < phase.needed:
                style = "red"
            seconds = (view.at if phase.finished is None else phase.finished) - phase.started
            table.add_row(
                phase.phase.replace("_", " "), Text(_bar(phase), style=style), f"{max(0.0, seconds):.1f}", _margin(phase)
            )
        parts.append(table)
        last = shown[-1]
        for event in reversed(view.left):
            if (event.round, event.detail.get("attempt")) == (last.round, last.attempt):
                parts.append(Text(printable(event.text), style="red"))
    if view.events:
        happened = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
        for event in reversed(view.events):
            happened.add_row(_time(event.at), Text(printable(event.text)))
        parts += [Text("\nlately", style="bold"), happened]
    if view.rounds:
        table = Table(
            "round", "state", "devices", "epsilon", "sums", "release", "ended", box=None, pad_edge=False, padding=(0, 1)
        )
        for row in view.rounds:
            table.add_row(*(Text(printable(cell)) for cell in _round(row, view.signed[row.round])))
        parts += [Text(""), table]
    return Group(*parts)


def _headline(view: View) -> str:
    shown = _attempt(view.phases)
    if not shown:
        return "No round has been watched yet."
    newest = shown[-1]
    running = any(phase.finished is None for phase in shown)
    return f"Round {newest.round}, {newest.purpose}, attempt {newest.attempt}{'' if running else ' (nothing runs now)'}"


def _attempt(phases: "Sequence[PhaseRow]") -> "list[PhaseRow]":
    """The phases of the newest attempt."""
    if not phases:
        return []
    newest = phases[-1]
    return [phase for phase in phases if (phase.attempt, phase.purpose) == (newest.attempt, newest.purpose)]


def _bar(phase: "PhaseRow") -> str:
    if not phase.expected:
        return "█" * BAR_CELLS if phase.finished is not None else "░" * BAR_CELLS
    filled = min(BAR_CELLS, round(BAR_CELLS * phase.reported / phase.expected))
    return "█" * filled + "░" * (BAR_CELLS - filled)


def _margin(phase: "PhaseRow") -> str:
    return f"{phase.reported} of {phase.expected} reported, at least {phase.needed} needed" if phase.expected else ""


def _round(row: "RoundRow", signed: str) -> tuple[str, ...]:
    epsilon = row.metrics.get("epsilon")
    return (
        str(row.round),
        row.state,
        f"{row.survivors} of {row.cohort}",
        f"{epsilon:.3g}" if isinstance(epsilon, float) else "no noise",
        signed,
        (row.release or "-")[:12],
        "-" if row.finished is None else _time(row.finished),
    )


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
