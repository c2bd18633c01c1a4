"""A notebook on a small budget."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture
def outputs_of(tmp_path):
    """(name, what is replaced by what) -> all that a notebook puts out; each of the texts that are
    replaced must be in it.
    """

    def run(name, smaller):
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        found = dict.fromkeys(smaller, 0)
        for cell in notebook.cells:
            for text, replacement in smaller.items():
                found[text] += text in cell.source
                cell.source = cell.source.replace(text, replacement)
        assert 0 not in found.values(), found
        nbclient.NotebookClient(
            notebook, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
        ).execute()
        return [output for cell in notebook.cells for output in cell.get("outputs", [])]

    return run
