"""The report: one file that holds every number of the summary, asks for nothing, says what is lost and trusts no text."""

import copy
import json
import re
import runpy
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.report import render
from sim.report.drawing import BOTTOM, LINE_HEIGHT, TOP, draw
from sim.report.figures import sections
from sim.report.numbers import number, precise, thinned, ticks
from sim.report.series import Series, folded, ratios, running, sums, total
from sim.report.words import against
from sim.summary import flatten

EXAMPLES = runpy.run_path(str(Path(__file__).with_name("report_summary.py")))
summary: Callable[..., dict[str, Any]] = EXAMPLES["summary"]
KINDS: tuple[str, ...] = EXAMPLES["KINDS"]
QUERIES: int = EXAMPLES["QUERIES"]

VOID = {"meta", "link", "path", "circle", "rect", "br"}


class Page(HTMLParser):
    """What a document holds: its elements in order, its tables as rows of cells, its ids, its text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.values: dict[str, list[float]] = {}
        self.words: list[str] = []
        self._open: list[str] = []
        self._table: str | None = None
        self._cell = False
        self.feed(document)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += found.items()
        if "id" in found:
            self.ids.append(found["id"])
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = found["id"]
            self.tables[self._table], self.values[self._table] = [], []
        elif self._table and tag == "tr":
            self.tables[self._table].append([])
        elif self._table and tag in ("td", "th"):
            self.tables[self._table][-1].append("")
            self._cell = True
        elif self._table and tag == "data":
            self.values[self._table].append(float(found["value"]))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self._open.pop() == tag, tag
        if tag == "table":
            self._table = None
        elif tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)
        if self._table and self._cell:
            self.tables[self._table][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def column(self, table: str, name: str) -> list[str]:
        head, *rows = self.tables[table]
        return [row[head.index(name)] for row in rows]


FIGURES = (
    "fallback",
    "accuracy",
    "accuracy-in-scope",
    "risk",
    "cost-marginal",
    "cost-loaded",
    "cost-cumulative",
    "payers",
    "energy",
    "cohort",
    "attempts",
    "bytes",
    "seconds",
)


def test_every_section_and_a_chart_with_its_table_for_every_figure_are_present() -> None:
    page = Page(render(summary()))
    for name in ("result", "answers", "costs", "rounds", "everything"):
        assert name in page.ids
    for key in FIGURES:
        assert f"figure-{key}" in page.ids and f"table-{key}" in page.ids
        assert len(page.tables[f"table-{key}"]) == 21
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("figure") == len(FIGURES) == sum(role == ("role", "img") for role in page.attributes)
    assert page.tags.count("h1") == 1


@pytest.mark.parametrize(
    ("table", "column", "path"),
    [
        ("fallback", 0, "fallback_rate"),
        ("accuracy", 0, "accuracy.device"),
        ("accuracy", 1, "accuracy.system"),
        ("accuracy", 2, "accuracy.central"),
        ("accuracy-in-scope", 0, "accuracy_in_scope.device"),
        ("cost-marginal", -2, "usd_per_1k.marginal"),
        ("cost-loaded", -3, "usd_per_1k.marginal"),
        ("cost-loaded", -2, "usd_per_1k.loaded"),
        ("cost-loaded", -1, "usd_per_1k.all_cloud"),
        ("energy", 3, "energy_j.device_idle"),
        ("cohort", 0, "cohort"),
        ("cohort", 1, "survivors"),
        ("attempts", 0, "attempts"),
        ("bytes", 0, "bytes.up"),
        ("bytes", 1, "bytes.down"),
        ("seconds", 4, "seconds.share_keys"),
    ],
)
def test_a_charts_table_holds_the_summarys_numbers_exactly(table: str, column: int, path: str) -> None:
    written = summary()
    page = Page(render(written))
    width = len(page.tables[f"table-{table}"][0]) - 1
    values = page.values[f"table-{table}"]
    rows = [values[start : start + width] for start in range(0, len(values), width)]
    assert [row[column] for row in rows] == [float(flatten(entry)[path]) for entry in written["rounds"]]


def test_the_risk_table_shows_bound_and_measured_disagreement_with_a_dash_where_there_is_none() -> None:
    page = Page(render(summary(rounds=3)))
    assert page.column("table-risk", "certified risk: running bound") == ["–", "15.00\xa0%", "10.00\xa0%"]
    assert page.column("table-risk", "measured: test queries answered locally") == ["–", "3.50\xa0%", "3.33\xa0%"]
    assert page.column("table-risk", "greatest risk permitted") == ["5.00\xa0%"] * 3


def test_costs_by_kind_stand_per_thousand_queries_and_add_up_to_the_accounts() -> None:
    written = summary()
    costs = {figure.key: figure for section in sections(written) for figure in section.figures}
    for key, account in (("cost-marginal", "marginal"), ("cost-loaded", "loaded")):
        drawn, accounts = costs[key].layers, costs[key].lines
        kinds = [series for series in costs[key].table if series not in accounts]
        expected = [entry["usd_per_1k"][account] for entry in written["rounds"]]
        assert sums(kinds) == pytest.approx(expected)
        assert sums(drawn) == pytest.approx(expected)
    escalations = next(series for series in costs["cost-loaded"].table if series.name == "escalations")
    assert escalations.values[0] == pytest.approx(1000 * 1.5 / QUERIES)
    assert {series.name for series in costs["cost-loaded"].table} >= {kind.replace("_", " ") for kind in KINDS}


def test_the_complete_table_has_every_key_of_every_round() -> None:
    written = summary(rounds=8)
    head, *rows = Page(render(written)).tables["table-rounds"]
    assert set(head) == {key for entry in written["rounds"] for key in flatten(entry)}
    assert len(rows) == 8
    assert rows[2][head.index("weights_sha256")] == "ab" * 32
    assert rows[0][head.index("threshold")] == "–" and rows[1][head.index("threshold")] == "0.8"
    assert rows[6][head.index("notes")].startswith("PURPOSE_UPDATE attempt 1 aborted")


def test_the_file_refers_to_nothing_outside_itself_and_runs_no_script() -> None:
    document = render(summary())
    assert re.findall(r"https?://|//[a-z]", document) == []
    page = Page(document)
    assert not {"script", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert [value for name, value in page.attributes if name in ("src", "href", "srcset", "action")] == ["data:,", "#result"]
    assert "@import" not in document and "url(" not in document
    assert not any(name.startswith("on") for name, _ in page.attributes)


HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>'\"&{{ 7 * 7 }}"


def test_text_from_a_users_file_never_becomes_markup() -> None:
    hostile = summary(
        rounds=2, workload=HOSTILE, note=HOSTILE, central_model=HOSTILE, device_profile=HOSTILE, version=HOSTILE
    )
    hostile["parameters"]["prices"] = HOSTILE
    last = hostile["rounds"][-1]
    last["notes"], last["outcome"] = [HOSTILE], HOSTILE
    for name in ("usd", "usd_by_payer", "energy_j", "seconds"):
        last[name] = {**last[name], HOSTILE: 1.0}
    document = render(hostile)
    page = Page(document)
    assert "<script" not in document and "onerror=" not in {name for name, _ in page.attributes}
    assert page.tags.count("title") == 1 + len(FIGURES) * 2
    assert "alert(1)" in page.text and "49" not in re.findall(r"&(\d+)", page.text)
    assert "img" not in page.tags


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
@settings(max_examples=25, deadline=None)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    page = Page(render(summary(rounds=1, note=text)))
    assert " ".join(text.split()) in page.text


@pytest.mark.parametrize(
    ("secagg", "loud"), [(True, None), (False, "Plain run: nothing is private"), ("demo", "its sums are not private")]
)
def test_a_run_whose_sums_are_not_private_says_so_loudly(secagg: object, loud: str | None) -> None:
    document = render(summary(rounds=1, secagg=secagg))
    assert ('class="warning"' in document) == (loud is not None)
    assert loud is None or loud in Page(document).text


def test_the_header_names_what_ran() -> None:
    text = Page(render(summary(rounds=2))).text
    for words in ("clinc150: 100 devices over 2 rounds", "raspberry-pi-4", "2026-08", "minilm-tfidf", "36923c37" * 8):
        assert words in text
    assert "2000 of the 4000 queries asked in this run were drawn again" in text
    assert "not measured" in text and "no one trained on" in text


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        (1, "None: no threshold could be shown to keep the disagreement with central within 5\xa0%"),
        (8, "Empirical: the threshold in use passed a test"),
        (20, "Certified: local answers disagree with central in at most 4.10\xa0% (anytime-valid, 95\xa0% confidence)"),
    ],
)
def test_the_certificates_state_stands_in_words(rounds: int, words: str) -> None:
    assert " ".join(words.split()) in Page(render(summary(rounds=rounds))).text


def test_a_loss_is_said_plainly_per_account() -> None:
    text = Page(render(summary())).text
    assert "In the loaded account, a query of round 20 cost 85.2 % more than all-cloud: here the device side loses" in text
    assert "no break-even" in text
    assert "In the marginal account, a query of round 20 cost 48.1 % less than all-cloud; summed over the run" in text
    assert "from round 6 on" in text


@pytest.mark.parametrize(
    ("cost", "cloud", "said"),
    [
        (0.5, 1.0, ("50\xa0% less than", "good")),
        (1.0, 1.0, ("as much as", "")),
        (1.5, 1.0, ("50\xa0% more than", "loss")),
        (3.0, 1.0, ("3 times", "loss")),
        (None, 1.0, ("", "")),
        (1.0, 0.0, ("", "")),
    ],
)
def test_a_cost_beside_all_cloud(cost: float | None, cloud: float, said: tuple[str, str]) -> None:
    assert against(cost, cloud) == said


def test_one_round_without_threshold_break_even_or_local_answers_still_renders() -> None:
    page = Page(render(summary(rounds=1, break_even_round=None)))
    assert page.column("table-risk", "certified risk: running bound") == ["–"]
    assert page.tags.count("circle") > 0, "a single round is a dot, since it makes no line"


def test_no_round_at_all_still_renders() -> None:
    assert "No round has been finished" in Page(render(summary(rounds=0))).text


def test_a_failed_round_is_shaded_named_and_listed_with_its_notes() -> None:
    written = summary(rounds=5)
    written["rounds"][2] |= {"outcome": "failed", "attempts": 5, "cohort": 0, "survivors": 0, "notes": ["attempt 5 aborted"]}
    document = render(written)
    page = Page(document)
    assert document.count('class="unfinished"') == len(FIGURES)
    assert page.column("table-cohort", "Round")[2] == "3 (failed)"
    assert "Round 3 : failed, 5 attempts attempt 5 aborted" in page.text
    assert "Round 3 (failed)" in document


def test_keys_that_a_summary_may_lack_leave_dashes_and_no_error() -> None:
    written = summary(rounds=2)
    for entry in written["rounds"]:
        for key in ("outcome", "notes", "stream", "usd_total", "usd_by_payer", "energy_j", "probes"):
            del entry[key]
    for key in ("parameters", "note", "central_model", "price_book", "device_profile", "seconds", "break_even_round_loaded"):
        del written[key]
    page = Page(render(written))
    assert "figure-fallback" in page.ids and "figure-payers" not in page.ids
    assert page.column("table-fallback", "the fleet's own queries") == ["–", "–"]


def test_one_accuracy_chart_is_enough_where_everything_is_in_scope() -> None:
    written = summary(rounds=2)
    for entry in written["rounds"]:
        entry["accuracy_in_scope"] = entry["accuracy"]
    page = Page(render(written))
    assert "figure-accuracy" in page.ids and "figure-accuracy-in-scope" not in page.ids


def test_two_hundred_rounds_thin_out_the_labels_but_keep_every_number() -> None:
    page = Page(render(summary(rounds=200)))
    assert len(page.tables["table-fallback"]) == 201
    chart = draw(sections(summary(rounds=200))[0].figures[0])
    assert [text.text for text in chart.rounds] == ["1", "50", "100", "150", "200"]


def test_rendering_changes_nothing_and_is_repeatable() -> None:
    written = summary(rounds=3)
    before = copy.deepcopy(written)
    assert render(written) == render(json.loads(json.dumps(written)))
    assert written == before


@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=250))
@settings(deadline=None)
def test_every_coordinate_of_any_series_lies_in_its_chart(rates: list[float | None]) -> None:
    written = summary(rounds=len(rates))
    for entry, rate in zip(written["rounds"], rates, strict=True):
        entry["fallback_rate"] = rate
    chart = draw(sections(written)[0].figures[0])
    points = [(float(x), float(y)) for line in chart.lines for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", line.d)]
    assert sum(rate is not None for rate in rates) == len(re.findall("[ML]", chart.lines[0].d))
    assert all(chart.left <= x <= chart.right and TOP <= y <= BOTTOM for x, y in points)
    heights = sorted(label.y for label in chart.labels)
    assert all(b - a >= LINE_HEIGHT - 1e-9 for a, b in pairwise(heights))


@given(st.floats(1e-12, 1e12))
def test_ticks_start_at_nothing_reach_the_top_and_are_few_and_even(top: float) -> None:
    steps = ticks(top)
    assert steps[0] == 0 and steps[-1] >= top * (1 - 1e-9) and 2 <= len(steps) <= 6
    assert steps[-1] <= 2.5 * top


@given(st.integers(1, 10_000))
def test_counted_things_get_whole_ticks(top: int) -> None:
    assert all(step == round(step) for step in ticks(float(top), whole=True))


@given(st.integers(1, 5000))
def test_rounds_get_at_most_nine_labels_the_first_among_them(count: int) -> None:
    labels = thinned(count)
    assert labels[0] == 0 and labels[-1] < count and len(labels) <= 9
    assert count > 8 or labels == list(range(count))


def _layer(name: str, *values: float | None) -> Series:
    return Series(name, values, "usd")


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_folding_keeps_the_sum_and_at_most_six_names(amounts: list[float]) -> None:
    layers = [_layer(str(index), amount) for index, amount in enumerate(amounts)]
    shown = folded(layers)
    assert sum(map(total, shown)) == pytest.approx(sum(amounts))
    assert len(shown) <= 7 and len({layer.colour for layer in shown}) == len(shown)


def test_missing_values_stay_missing_in_arithmetic() -> None:
    assert ratios((1.0, None, 1.0), (2.0, 1.0, 0.0)) == (0.5, None, None)
    assert running((1.0, None, 2.0)) == (1.0, 1.0, 3.0)
    assert sums([_layer("a", 1.0, None), _layer("b", 2.0, None)]) == (3.0, None)


@pytest.mark.parametrize(
    ("value", "unit", "short", "long"),
    [
        (0.05, "share", "5\xa0%", "5.00\xa0%"),
        (0.87344, "share", "87.3\xa0%", "87.34\xa0%"),
        (4_427_318.0, "bytes", "4.43\xa0MB", "4.427\xa0MB"),
        (999.0, "bytes", "999\xa0B", "999.0\xa0B"),
        (6_998_400.0, "joule", "7.00\xa0MJ", "6.998\xa0MJ"),
        (0.0593, "second", "0.0593\xa0s", "0.059\xa0s"),
        (0.15568, "usd", "0.156", "0.1557"),
        (9.39e-8, "usd", "9.39e-08", "9.390e-08"),
        (0.0, "usd", "0", "0"),
        (4800.0, "count", "4800", "4800"),
    ],
)
def test_numbers_are_written_with_their_unit(value: float, unit: Any, short: str, long: str) -> None:
    assert (number(value, unit), precise(value, unit)) == (short, long)


def with_policy(*, before: float | None = None, over_budget: int = 0) -> dict[str, Any]:
    """A run under a policy that pins one label: fewer rules are broken with each round."""
    made = summary(rounds=4)
    for number_, entry in enumerate(made["rounds"], start=1):
        counted = {"violation_rate": 0.2 / number_, "pinned": 40, "violations": 8 // number_, "overreach": 0.03}
        rule = {"by_rule": {"human": {"queries": 40, "violations": 8 // number_}}}
        entry["policy"] = {
            **counted, **rule, "violation_rate_unconstrained": before, "overreach_unconstrained": None,
            "stream": {
                **counted, **rule, "violation_rate_unconstrained": None, "over_budget": over_budget, "rate_limited": 0,
                "policy_human": 5,
            },
        }  # fmt: skip
    return made


def test_a_policy_is_shown_in_words_and_figures_with_what_it_was_before() -> None:
    page = Page(render(with_policy(before=0.125, over_budget=7)))
    said = " ".join(" ".join(page.words).split())
    assert "2 of the 40 test queries" in said and "without the rules in training 12.5 %" in said
    assert "28 queries came over a day's budget" in said
    assert {"figure-violations", "figure-limited", "policy-words"} <= set(page.ids)


def test_a_policy_without_a_comparison_or_a_limit_reached_claims_neither() -> None:
    said = render(with_policy())
    assert "broken rules, test queries" in said and "without the rules in training" not in said and "Limits:" not in said


def test_a_run_without_a_policy_has_no_word_on_it() -> None:
    said = render(summary())
    assert "policy-words" not in said and "figure-violations" not in said
