"""Worked numbers of the papers' formulas: every example of tests/data/worked_numbers.json, which
were made apart from this code, in float64.
"""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
ADAPTERS = runpy.run_path(str(HERE / "worked_numbers.py"))["ADAPTERS"]
EXAMPLES = json.loads((HERE / "data" / "worked_numbers.json").read_text())


def test_every_adapter_has_an_example():
    assert set(ADAPTERS) == {example["name"] for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["name"])
def test_worked_numbers(example):
    outputs = ADAPTERS[example["name"]](**example["inputs"])
    assert set(outputs) == set(example["outputs"])
    for name, expected in example["outputs"].items():
        found = np.asarray(outputs[name])
        assert found.shape == np.shape(expected), name
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=name)
