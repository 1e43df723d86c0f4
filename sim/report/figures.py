"""The figures of a report as data: which series of a summary stand together, in which order, colour and unit.

Nothing is drawn here, and nothing is measured: every value is the summary's, or a quotient or running sum of its values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedge.costs.ledger import STANDING, Kind
from sim.report.numbers import Unit
from sim.report.routing import risk_coverage
from sim.report.series import Figure, Series, column, folded, ratios, running, sums, total

_STANDING = tuple(kind.value for kind in Kind if kind in STANDING)
_STANDING_COLOURS = {"device_idle": "idle", "device_hardware": "hardware"}


@dataclass(frozen=True, slots=True)
class Section:
    """Figures under one heading."""

    key: str
    title: str
    figures: tuple[Figure, ...]


def sections(summary: Mapping[str, Any]) -> tuple[Section, ...]:
    """All figures of a summary with at least one round."""
    run = _Run(summary)
    answers = (run.fallback(), *run.accuracies(), run.risk(), risk_coverage(summary))
    costs = (run.marginal(), run.loaded(), run.cumulative(), run.payers(), run.energy())
    policy = (Section("policy", "What the policy did", (run.violations(), run.limited())),) if run.has_policy else ()
    return (
        Section("answers", "Who answers, and how well", tuple(figure for figure in answers if figure is not None)),
        *policy,
        Section("costs", "What it costs, and who pays", tuple(figure for figure in costs if figure is not None)),
        Section("rounds", "How the rounds went", (run.cohort(), run.attempts(), run.bytes(), run.seconds())),
    )


class _Run:
    """One method a figure, over the rounds of one summary."""

    def __init__(self, summary: Mapping[str, Any]) -> None:
        self._summary = summary
        self._entries: Sequence[Mapping[str, Any]] = summary["rounds"]
        self._rounds = tuple(int(entry["round"]) for entry in self._entries)
        self._unfinished = {
            int(entry["round"]): str(entry["outcome"])
            for entry in self._entries
            if entry.get("outcome", "finished") != "finished"
        }
        self._queries = column(self._entries, "stream.queries")

    def fallback(self) -> Figure:
        test = self._series("test queries", "fallback_rate", "share", "c0", label="test")
        stream = self._ratio("the fleet's own queries", "stream.escalated", "share", "c1", label="fleet")
        return self._figure(
            "fallback",
            "Fallback rate",
            "Share of queries that go to central; probes are left out. The fleet asks before the round, the test is made "
            "after it.",
            lines=(test, stream),
            top=1.0,
        )

    def accuracies(self) -> tuple[Figure, ...]:
        def one(key: str, title: str, path: str, which: str) -> Figure:
            lines = (
                self._series("device: its answer to everything", f"{path}.device", "share", "c0", label="device"),
                self._series("system: what the user gets", f"{path}.system", "share", "c2", label="system"),
                self._series(
                    "central: its answer to everything", f"{path}.central", "share", "c5", label="central", dashed=True
                ),
            )
            return self._figure(key, title, f"Share of right answers, {which} of the test third.", lines=lines, top=1.0)

        both = one("accuracy", "Accuracy, all queries", "accuracy", "all queries")
        scope = one("accuracy-in-scope", "Accuracy, in scope", "accuracy_in_scope", "the queries in scope")
        same = all(a.values == b.values for a, b in zip(both.lines, scope.lines, strict=True))
        if same:
            return (
                replace(both, title="Accuracy", caption="Share of right answers on the test third; all of it is in scope."),
            )
        return both, scope

    def risk(self) -> Figure:
        local, disagreed = (column(self._entries, f"stream.{name}") for name in ("local", "disagreed"))
        so_far = ratios(running(disagreed), running(local))
        limit = self._summary.get("parameters", {}).get("max_risk")
        lines = [
            self._series("certified risk: running bound", "certified_risk", "share", "c5", label="bound"),
            Series("measured: the fleet's local answers so far", so_far, "share", "c0", label="fleet"),
            self._series("measured: the fleet's, this round", "stream.local_disagreement", "share", "c4"),
            self._series("measured: test queries answered locally", "local_disagreement", "share", "c2", label="test"),
        ]
        if limit is not None:
            values = (float(limit),) * len(self._rounds)
            lines.append(Series("greatest risk permitted", values, "share", label="limit", dashed=True))
        return self._figure(
            "risk",
            "Disagreement with central: certified and measured",
            "Share of local answers that differ from what central would have said. The bound speaks of the fleet's local "
            "answers so far; devices know it from probes only.",
            lines=lines,
        )

    @property
    def has_policy(self) -> bool:
        """Whether a policy pinned or limited anything."""
        return any("policy" in entry for entry in self._entries)

    def violations(self) -> Figure:
        lines = (
            self._series("broken rules, test queries", "policy.violation_rate", "share", "c0", label="test"),
            self._series(
                "broken rules, the fleet's own queries", "policy.stream.violation_rate", "share", "c1", label="fleet"
            ),
            self._series(
                "broken rules, test queries, without the rules in training",
                "policy.violation_rate_unconstrained",
                "share",
                "c5",
                label="before",
                dashed=True,
            ),
            self._series("free test queries that a rule caught", "policy.overreach", "share", "c2", label="overreach"),
        )
        return self._figure(
            "violations",
            "Broken rules",
            "Share of the queries whose label by central is pinned that went where their rule forbids: the device took them "
            "for another label, or a limit kept them. And of the free ones, how many a rule caught.",
            lines=tuple(line for line in lines if any(value is not None for value in line.values)) or lines[:1],
        )

    def limited(self) -> Figure:
        shares = (
            self._ratio("over the day's budget", "policy.stream.over_budget", "share", "c1", label="budget"),
            self._ratio("more often than the rate", "policy.stream.rate_limited", "share", "c4", label="rate"),
            self._ratio("left to a person", "policy.stream.policy_human", "share", "c2", label="person"),
        )
        return self._figure(
            "limited",
            "Kept from central",
            "Share of the fleet's own queries. What a budget or a rate kept from central was answered on the device, marked "
            "degraded, and lies outside the certificate.",
            lines=shares,
        )

    def marginal(self) -> Figure:
        kinds = self._kinds()
        lines = (self._account("marginal"), self._account("all_cloud"))
        return self._figure(
            "cost-marginal",
            "Marginal cost per 1,000 queries",
            "USD, by kind: what would not have been spent without fedge on devices that are there anyway.",
            layers=folded(kinds),
            lines=lines,
            table=(*kinds, *lines),
        )

    def loaded(self) -> Figure:
        kinds, standing = self._kinds(), self._standing()
        lines = (self._account("marginal"), self._account("loaded"), self._account("all_cloud"))
        return self._figure(
            "cost-loaded",
            "Loaded cost per 1,000 queries",
            "USD, by kind: the marginal kinds, then what the devices' idle power and hardware add.",
            layers=(*folded(kinds), *(layer for layer in standing if total(layer))),
            lines=lines,
            table=(*kinds, *standing, *lines),
        )

    def cumulative(self) -> Figure | None:
        def one(name: str, account: str, colour: str, *, dashed: bool = False) -> Series:
            values = running(column(self._entries, f"usd_total.{account}"))
            return Series(name, values, "usd", colour, label=name, dashed=dashed)

        if all(value is None for value in column(self._entries, "usd_total.loaded")):
            return None
        lines = (
            one("marginal", "marginal", "c0"),
            one("loaded", "loaded", "c5"),
            one("all-cloud", "all_cloud", "ink", dashed=True),
        )
        keys = {"marginal": "break_even_round", "loaded": "break_even_round_loaded"}
        marks = {name: self._summary.get(key) for name, key in keys.items()}
        return self._figure(
            "cost-cumulative",
            "Cost of the run so far",
            "USD since the first round. Break-even is the first round from which a line stays at or below all-cloud.",
            lines=lines,
            marks=tuple((int(at), f"break-even, {name}") for name, at in marks.items() if at is not None),
        )

    def payers(self) -> Figure | None:
        layers = [self._ratio(_words(p), f"usd_by_payer.{p}", "usd", scale=1000.0) for p in self._keys("usd_by_payer")]
        if not layers:
            return None
        return self._figure(
            "payers",
            "Who pays, per 1,000 queries",
            "USD of the loaded account: the devices' owners pay power, line and hardware, the operator the rest.",
            layers=folded(layers),
            table=layers,
        )

    def energy(self) -> Figure | None:
        kinds = [self._series(_words(kind), f"energy_j.{kind}", "joule") for kind in self._keys("energy_j")]
        if not kinds:
            return None
        idle = _words("device_idle")
        return self._figure(
            "energy",
            "Energy per round, without idle devices",
            "Modelled from the device profile, not measured. Idle power, which is far larger, stands in the table.",
            layers=folded([kind for kind in kinds if kind.name != idle]),
            table=kinds,
        )

    def cohort(self) -> Figure:
        cohort, survivors = column(self._entries, "cohort"), column(self._entries, "survivors")
        gone = tuple(None if c is None or s is None else c - s for c, s in zip(cohort, survivors, strict=True))
        stayed = Series("survivors", survivors, "count", "c0")
        left = Series("dropped out", gone, "count", "c1")
        return self._figure(
            "cohort",
            "Cohort and survivors",
            "Devices in the update session that succeeded; survivors are in its sum.",
            layers=(stayed, left),
            table=(Series("cohort", cohort, "count"), stayed, left),
        )

    def attempts(self) -> Figure:
        attempts = self._series("attempts at the update session", "attempts", "count", "c2")
        return self._figure(
            "attempts",
            "Attempts",
            "Update sessions begun until one succeeded; an aborted one is tried again with a new roster.",
            layers=(attempts,),
        )

    def bytes(self) -> Figure:
        lines = (
            self._series("up: devices to servers", "bytes.up", "bytes", "c0", label="up"),
            self._series("down: servers to devices", "bytes.down", "bytes", "c5", label="down"),
            self._series("of those up: update vectors", "bytes.update", "bytes", "c2", label="updates", dashed=True),
        )
        return self._figure(
            "bytes",
            "Bytes per round",
            "Of the whole fleet: queries, answers, updates, secure aggregation and releases.",
            lines=tuple(line for line in lines if any(value is not None for value in line.values)),
        )

    def seconds(self) -> Figure:
        phases = [self._series(_words(phase), f"seconds.{phase}", "second") for phase in self._keys("seconds")]
        every = Series("all phases", sums(phases), "second")
        return self._figure(
            "seconds",
            "Seconds by phase",
            "Wall time of the machine that ran the simulation, all devices one after another; no device took this long.",
            layers=folded(phases),
            table=(*phases, every),
        )

    def _figure(
        self,
        key: str,
        title: str,
        caption: str,
        *,
        layers: Sequence[Series] = (),
        lines: Sequence[Series] = (),
        table: Sequence[Series] = (),
        top: float = 0.0,
        marks: tuple[tuple[int, str], ...] = (),
    ) -> Figure:
        rows = tuple(table) or (*layers, *lines)
        return Figure(
            key=key,
            title=title,
            caption=caption,
            unit=rows[0].unit,
            rounds=self._rounds,
            layers=tuple(layers),
            lines=tuple(lines),
            table=rows,
            top=top,
            marks=marks,
            unfinished=self._unfinished,
        )

    def _series(
        self, name: str, path: str, unit: Unit, colour: str = "ink", *, label: str = "", dashed: bool = False
    ) -> Series:
        return Series(name, column(self._entries, path), unit, colour, label=label, dashed=dashed)

    def _ratio(
        self, name: str, path: str, unit: Unit, colour: str = "ink", *, label: str = "", scale: float = 1.0
    ) -> Series:
        """A count or a sum of money of each round over its queries; for escalations over those that were no probes."""
        queries = self._queries
        if path == "stream.escalated":
            probes = column(self._entries, "stream.probes")
            queries = tuple(None if q is None or p is None else q - p for q, p in zip(queries, probes, strict=True))
        values = ratios(column(self._entries, path), queries)
        return Series(name, tuple(None if v is None else scale * v for v in values), unit, colour, label=label)

    def _account(self, name: str) -> Series:
        text = name.replace("_", "-")
        return self._series(text, f"usd_per_1k.{name}", "usd", label=text, dashed=name == "all_cloud")

    def _kinds(self) -> list[Series]:
        names = [kind for kind in self._keys("usd") if kind not in _STANDING]
        return [self._ratio(_words(kind), f"usd.{kind}", "usd", scale=1000.0) for kind in names]

    def _standing(self) -> list[Series]:
        return [
            self._ratio(_words(kind), f"usd.{kind}", "usd", _STANDING_COLOURS.get(kind, "other"), scale=1000.0)
            for kind in _STANDING
            if kind in self._keys("usd")
        ]

    def _keys(self, name: str) -> list[str]:
        """The keys under ``name`` in any round, in the order in which they first came."""
        return list(dict.fromkeys(key for entry in self._entries for key in entry.get(name) or ()))


def _words(key: str) -> str:
    return key.replace("_", " ")
