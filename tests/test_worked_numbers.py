"""The worked numbers of the papers on the two loops, through the project's own functions."""

import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

HERE = Path(__file__).parent
ADAPTERS = runpy.run_path(str(HERE / "worked_numbers.py"))["ADAPTERS"]
EXAMPLES = json.loads((HERE / "data" / "worked_numbers.json").read_text())


def test_every_example_has_an_adapter_and_every_adapter_an_example():
    assert list(EXAMPLES) == list(ADAPTERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTERS)
def test_worked_number(name):
    """To 1e-5, of large numbers 1e-5 of them: the examples have six decimals."""
    outputs = ADAPTERS[name](**EXAMPLES[name]["inputs"])
    expected = EXAMPLES[name]["outputs"]
    assert set(outputs) == set(expected)
    for each, numbers in expected.items():
        found = np.asarray(jax.device_get(outputs[each]), np.float64)
        assert found.shape == np.shape(numbers), each
        np.testing.assert_allclose(found, numbers, rtol=1e-5, atol=1e-5, err_msg=each)
