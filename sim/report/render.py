"""From a summary to the HTML file. The page holds its style and its charts, runs no script and may load nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sim.report import routing, words
from sim.report.drawing import draw
from sim.report.figures import sections
from sim.report.numbers import MISSING, number, precise, significant
from sim.summary import flatten


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a reader should know of one round."""

    round: int
    outcome: str
    attempts: str
    notes: tuple[str, ...]


def render(summary: Mapping[str, Any]) -> str:
    """The report of ``summary`` (the content of `summary.json`) as one self-contained HTML document."""
    rounds: Sequence[Mapping[str, Any]] = summary["rounds"]
    page = environment().get_template("report.html")
    return page.render(
        summary=summary,
        parameters=summary.get("parameters", {}),
        setup=summary.get("seconds", {}),
        warning=words.warning(summary["secagg"]),
        attackers=words.describe_attackers(summary),
        facts=words.facts(summary),
        last=rounds[-1] if rounds else None,
        tiles=words.tiles(summary) if rounds else [],
        accounts=words.accounts(summary) if rounds else [],
        verdicts=words.verdicts(summary) if rounds else [],
        certificate=words.certificate(rounds[-1], summary.get("parameters", {})) if rounds else "",
        privacy=words.privacy(summary),
        policy=words.policy(summary) if rounds else None,
        routing=routing.rows(summary) if rounds else [],
        routing_sentences=routing.sentences(summary) if rounds else [],
        sections=sections(summary) if rounds else (),
        events=_events(rounds),
        columns=list(dict.fromkeys(key for entry in rounds for key in flatten(entry))),
        rows=[flatten(entry) for entry in rounds],
    )


@cache
def environment() -> Environment:
    """The templates' surroundings: drawing and numbers."""
    made = Environment(
        loader=PackageLoader("sim.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals.update(draw=draw)
    made.filters.update(number=number, precise=precise, cell=cell)
    return made


def cell(value: object) -> str:
    """Any value of a round as text: at most six significant digits, lists as sentences, a dash for nothing."""
    if value is None or value == []:
        return MISSING
    if isinstance(value, float):
        return significant(value, 6).rstrip("0").rstrip(".") if 1e-4 <= abs(value) < 1e6 else f"{value:.6g}"
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _events(rounds: Sequence[Mapping[str, Any]]) -> list[Event]:
    """The rounds in which not everything went as it should."""
    events = [
        Event(entry["round"], entry.get("outcome", "finished"), str(entry["attempts"]), tuple(entry.get("notes", ())))
        for entry in rounds
    ]
    return [event for event in events if event.notes or event.outcome != "finished" or event.attempts != "1"]
