"""What storing the outputs leaves out: the output of a cell that prints times."""

import nbformat
from store_outputs import NOT_STORED, normalise


def test_times_are_not_stored():
    notebook = nbformat.v4.new_notebook()
    for tags in ([], [NOT_STORED]):
        output = nbformat.v4.new_output("stream", text="1.2 s")
        cell = nbformat.v4.new_code_cell("1", outputs=[output], execution_count=1, metadata={"tags": tags})
        notebook.cells.append(cell)
    normalise(notebook)
    kept, timed = notebook.cells
    assert kept.outputs[0].text == "1.2 s"
    assert timed.outputs == [] and timed.execution_count == 1
