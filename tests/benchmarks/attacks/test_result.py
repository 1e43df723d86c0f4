"""The JSON of an attack's outcome."""

import json
import math

import pytest

from benchmarks.attacks.result import AttackResult
from fedge.errors import InputError


@pytest.mark.parametrize("measure", ["leaked", "damage"])
def test_the_value_stands_under_the_name_of_its_measure(measure):
    result = AttackResult("isolate_counts", True, measure, 0.5, "bits", "Nothing was told.")
    assert json.loads(json.dumps(result.to_json())) == {
        "attack": "isolate_counts",
        "held": True,
        measure: 0.5,
        "unit": "bits",
        "note": "Nothing was told.",
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_json_cannot_carry_is_refused(value):
    with pytest.raises(InputError, match="finite number"):
        AttackResult("isolate_counts", True, "leaked", value, "bits", "")
