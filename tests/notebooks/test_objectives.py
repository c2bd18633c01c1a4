"""The notebook of the objectives: what it names exists, and it runs on a small budget."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

from onejit.algos import tokens

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "objectives.ipynb"
SMALLER = {
    '"num_prompts": 32, "group_size": 8, "hidden_size": 32': (
        '"num_prompts": 4, "group_size": 4, "hidden_size": 8'
    ),
    "num_seeds = 5": "num_seeds = 2",
    "num_updates = 80": "num_updates = 4",
    "log_every = 4": "log_every = 2",
    "num_episodes=64": "num_episodes=2",
    "names.split()": "names.split()[:3]",
}


def test_it_trains_as_many_objectives_as_it_says():
    source = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
    families = re.search(r"^families = \{.*?^\}", source, re.DOTALL | re.MULTILINE)[0]
    named = [name for name in re.findall(r"\b[a-z0-9_]+\b", families) if name in tokens.OBJECTIVES]
    assert len(set(named)) == len(named) == 31
    assert "31 of these functions" in source


@pytest.mark.slow
def test_it_runs(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for text, replacement in SMALLER.items():
        (cell,) = (cell for cell in notebook.cells if text in cell.source)
        cell.source = cell.source.replace(text, replacement)
    nbclient.NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    said = "".join(output.get("text", "") for output in outputs)
    assert "[( is closed by )]\n" in said
    # Three objectives of each family, with an interval each.
    assert len(re.findall(r"^\w+ +\d\.\d\d  \(\d\.\d\d to \d\.\d\d\)$", said, re.MULTILINE)) == 9
