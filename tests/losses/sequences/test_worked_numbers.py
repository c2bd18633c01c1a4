"""Worked numbers of the objectives: every example of every file of tests/data/objectives.

A file is a list of objects with "name", "function" or "expression", "arguments" and "expected".
"function" is a path from `onejit.losses`, "sequences.advantages.group_normalize", or one that
begins with "algos.", from `onejit`. "expression" is Python over the arguments, `losses`, `jax`,
`jnp` and the modules of `losses.sequences` by their names (an argument of the same name hides one:
`losses.sequences.rewards` is there still).

"arguments", by name: a list becomes an int32 array if all of its numbers are written as integers
(labels, masks), bool if they are true and false, else float32 (so rewards are 1.0 and 0.0); an
object becomes a dict of such; a number becomes an array where it is data and stays what it is where
it is a hyperparameter or in an expression; strings stay; an integer named key becomes a key.

"expected" is one number or list, or an object: {"result": ...} is the same, several members are
those of a tuple in order, of which null is not looked at. Shapes have to be the same, values within
1e-5, and 1e-6 of what is large: the examples have six decimals.
"""

import inspect
import json
import pkgutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses

pytestmark = pytest.mark.slow

FILES = sorted((Path(__file__).parents[2] / "data" / "objectives").glob("*.json"))
EXAMPLES = [
    pytest.param(example, id=f"{file.stem}: {example['name']}")
    for file in FILES
    for example in json.loads(file.read_text())
]
MODULES = {name: getattr(losses.sequences, name) for name in losses.sequences.__all__}


def as_array(value):
    if isinstance(value, dict):
        return {key: as_array(each) for key, each in value.items()}
    array = np.asarray(value)
    return jnp.asarray(array, {"b": jnp.bool_, "i": jnp.int32, "f": jnp.float32}[array.dtype.kind])


def call(path, arguments):
    path = path if path.startswith("algos.") else f"losses.{path}"
    function = pkgutil.resolve_name(f"onejit.{path}")
    parameters = inspect.signature(function).parameters
    converted = {}
    for name, value in arguments.items():
        is_data = parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY
        if name == "key":
            converted[name] = jax.random.key(value)
        elif isinstance(value, list | dict) or (is_data and not isinstance(value, str)):
            converted[name] = as_array(value)
        else:
            converted[name] = value
    return function(**converted)


def evaluate(expression, arguments):
    converted = {
        name: as_array(value) if isinstance(value, list | dict) else value
        for name, value in arguments.items()
    }
    return eval(expression, {"losses": losses, "jax": jax, "jnp": jnp} | MODULES | converted)


@pytest.mark.parametrize("example", EXAMPLES)
def test_worked_number(example):
    given = set(example) - {"name", "arguments", "expected"}
    assert given in ({"function"}, {"expression"}), example
    if "function" in example:
        result = call(example["function"], example["arguments"])
    else:
        result = evaluate(example["expression"], example["arguments"])
    expected = example["expected"]
    if not isinstance(expected, dict):
        expected = {"result": expected}
    results = result if isinstance(result, tuple) else (result,)
    for each, (name, numbers) in zip(results, expected.items(), strict=True):
        if numbers is not None:
            assert np.shape(each) == np.shape(numbers), name
            np.testing.assert_allclose(each, numbers, rtol=1e-6, atol=1e-5, err_msg=name)


def test_there_are_examples():
    assert EXAMPLES
