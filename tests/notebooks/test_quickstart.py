"""The notebook runs from top to bottom, on a small budget."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


@pytest.mark.slow
def test_quickstart_runs(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        smaller = cell.source.replace("250_000", "8_192").replace(
            "jax.random.key(1), 32", "jax.random.key(1), 3"
        )
        cell.source = smaller.replace("max_steps=200", "max_steps=20")
    assert sum("8_192" in cell.source for cell in notebook.cells) == 1
    assert sum("jax.random.key(1), 3)" in cell.source for cell in notebook.cells) == 1
    nbclient.NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert "<video" in str(outputs[-1]) or "<img" in str(outputs[-1]["data"]["text/html"])
