"""The file `policy_numpy.py`: a policy's program as a module that imports numpy alone."""

import re
from typing import Any

import jax
import numpy as np

from ...envs import Box, Space
from .numpy_policy import Writer
from .numpy_text import type_name
from .policy_program import Program

_HEAD = '''"""The policy of this folder as plain lines of numpy, which need nothing else.

w has its arrays, of policy.npz; n is the number of observations.
"""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
with np.load(FOLDER / "policy.npz", allow_pickle=False) as arrays:
    w = dict(arrays)


def initial_memory(n):
    """What is remembered at the start of n episodes, by name, [n, ...]; {{}} for nothing."""
    memory = json.loads((FOLDER / "manifest.json").read_text())["memory"].items()
    return {{
        name: np.broadcast_to(np.asarray(x["initial"], x["dtype"]), (n, *x["shape"]))
        for name, x in memory
    }}


def act({arguments}):
    """{doc}"""
'''


def write(
    program: Program, obs: Any, memory: dict[str, np.ndarray], space: Space
) -> tuple[str, dict[str, np.ndarray]]:
    """The text of the file, and the arrays that it reads.

    Args:
      program: of (obs, memory) -> (actions, memory).
      obs: observations, by shape.
      memory: what is remembered, by name, without the axis n.
      space: of the actions.

    Raises:
      NumpyError: the program has an operation that is none of numpy's.
    """
    names = sorted(memory)
    inputs, begin = _observations(obs)
    remembered = [f'memory["{name}"]' for name in names]
    bounds = {"action.low": space.low, "action.high": space.high} if isinstance(space, Box) else {}
    writer = Writer(program, [*inputs, *remembered], bounds)
    action, *after = map(writer.output, program.outputs)
    if names:
        pairs = ", ".join(f'"{name}": {x}' for name, x in zip(names, after, strict=True))
        result = f"return {action}, {{{pairs}}}"
        doc = "Observations and memory, [n, ...], to actions and the memory after them."
    else:
        result = f"return {action}"
        doc = "Observations, [n, ...], to the actions of the policy without exploring."
    lines = [*begin, *writer.lines, result]
    if re.search(r"\bn\b", "".join([*writer.lines, result])):
        lines.insert(len(begin), f"n = {inputs[0]}.shape[0]")
    head = _HEAD.format(arguments="obs, memory" if names else "obs", doc=doc)
    return head + "".join(f"    {line}\n" for line in lines), writer.arrays


def _observations(obs: Any) -> tuple[list[str], list[str]]:
    """An expression for each leaf of the observations, and the lines that make them arrays."""
    if not isinstance(obs, dict):
        return ["obs"], [f"obs = np.asarray(obs, {type_name(obs.dtype)})"]
    names = [path[0].key for path, _ in jax.tree.leaves_with_path(obs)]
    lines = [f'{name} = np.asarray(obs["{name}"], {type_name(obs[name].dtype)})' for name in names]
    return names, lines
