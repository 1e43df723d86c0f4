"""The report's part on routing: the figures of the summary as text and as a curve, and none for an older summary."""

import runpy
from pathlib import Path

import numpy as np

from fedge.randomness import root_seed
from sim.report import render
from sim.report.routing import risk_coverage, rows, sentences
from sim.selective import selective_figures, threshold_counts

EXAMPLES = runpy.run_path(str(Path(__file__).with_name("report_summary.py")))

TRUTH = np.array([0, 0, 1, 1, 2, 2])
CENTRAL = np.array([0, 0, 1, 1, 2, 0])
DEVICE = np.array([0, 0, 1, 0, 0, 1])
SURE = np.array([0.9, 0.8, 0.7, 0.2, 0.75, 0.1])
IN_SCOPE = TRUTH != 2


def with_routing() -> dict:
    figures = selective_figures(SURE, DEVICE, CENTRAL, TRUTH, IN_SCOPE, seed=root_seed(1), draws=100)
    counts = threshold_counts(DEVICE, CENTRAL, TRUTH, SURE >= 0.75, IN_SCOPE)
    return EXAMPLES["summary"](routing={**figures, "threshold": counts})


def test_the_table_shows_value_and_interval():
    shown = {row.name: row for row in rows(with_routing())}
    assert shown["local, -1 point"].in_scope.startswith("75\N{NO-BREAK SPACE}% (")
    assert shown["APGR"].in_scope.startswith("0.875 (")


def test_out_of_scope_answers_are_counted_in_words():
    first, second = sentences(with_routing())
    assert "kept 3 of 6 test queries local: 1 of them" in first and "It sent 1 to central" in first
    assert "Out of scope: 1 of 2 such test queries were answered locally" in second


def test_the_curve_ends_at_the_error_on_everything():
    figure = risk_coverage(with_routing())
    assert figure is not None and figure.rounds[-1] == 100
    every, known, central = figure.lines
    assert (every.values[-1], known.values[-1], central.values[-1]) == (0.5, 0.25, 0.0)


def test_the_page_holds_table_and_curve_and_an_older_summary_has_neither():
    page = render(with_routing())
    assert 'id="table-result-routing"' in page and 'id="figure-risk-coverage"' in page
    older = EXAMPLES["summary"]()
    assert rows(older) == sentences(older) == [] and risk_coverage(older) is None
    assert "risk-coverage" not in render(older)
