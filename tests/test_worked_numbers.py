"""Every worked number of tests/data/worked_numbers.json, by its adapter."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
EXAMPLES = json.loads((HERE / "data" / "worked_numbers.json").read_text())
ADAPTERS = runpy.run_path(str(HERE / "worked_numbers.py"))["ADAPTERS"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["name"])
def test_worked_number(example):
    """Six digits are printed: within 1e-5, and 1e-5 of what is large."""
    found = ADAPTERS[example["name"]](**example["inputs"])
    assert found.keys() == example["outputs"].keys()
    for name, numbers in example["outputs"].items():
        assert np.shape(found[name]) == np.shape(numbers), name
        np.testing.assert_allclose(found[name], numbers, rtol=1e-5, atol=1e-5, err_msg=name)


def test_every_adapter_has_an_example():
    assert {example["name"] for example in EXAMPLES} == set(ADAPTERS)
