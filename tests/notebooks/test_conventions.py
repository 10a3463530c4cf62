"""The conventions that a machine can check: the frame of a notebook, its outputs, the size of the helpers."""

import ast
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*/*.ipynb"))
HELPERS = sorted(ROOT.glob("helpers/**/*.py"))

# What a stored output must not hold: folders of the machine that made it, warnings, raw objects.
NOISE = {
    "a path of this machine": r"(?<![\w.])/(home|root(?!/autodl-)|tmp|Users|opt|var|work)/|[A-Z]:\\\w",
    "a path of a package": r"site-packages",
    "a host name or address": r"\b\d{1,3}(\.\d{1,3}){3}:\d+|https?://(localhost|127\.)",
    "a warning": r"Warning\b|warnings\.warn|\[WARNING\]|deprecated",
    "a raw object": r"<Figure size|<Axes|<matplotlib|<module|<function|<bound method|at 0x[0-9a-f]{6}",
}
# How a check opens what it says, in English and in Chinese.
RIGHT = ("Right: ", "对了：")
WRONG = ("Not yet: ", "还不对：")

ALLOWED_NOISE = "allow-noise"  # tag of a cell that shows one of these on purpose


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def code_lines(cell):
    return [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]


def text_of(output):
    """All text that one output shows. A figure has a text too, but the figure is shown in its place."""
    data = output.get("data", {})
    texts = [] if "image/png" in data else [v for kind, v in data.items() if kind.startswith("text/")]
    return "\n".join([output.get("text", ""), output.get("evalue", ""), *texts])


def headings(notebook):
    """Headings below the title, without those inside code fences."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"```.*?```", "", cell.source, flags=re.S)
            found += re.findall(r"^(##+) (.+)$", prose, flags=re.M)
    return found


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_opening(notebook):
    opening, versions = notebook.cells[:2]
    assert opening.cell_type == "markdown"
    assert re.match(r"# \d\d · .+", opening.source), "the first cell is the title: # NN · Subject"
    for key in ("You will be able to", "Time", "Hardware", "Cost"):
        assert f"**{key}**" in opening.source, f"the opening says nothing under **{key}**"
    assert versions.cell_type == "code" and "print_versions(" in versions.source


def test_headings_are_numbered(notebook):
    sections = [text for level, text in headings(notebook) if level == "##"]
    numbers = [re.match(r"(\d+)\. ", text) for text in sections]
    assert all(numbers), f"not numbered: {[t for t, n in zip(sections, numbers, strict=True) if not n]}"
    assert [int(n[1]) for n in numbers] == list(range(1, len(sections) + 1))
    for level, text in headings(notebook):
        assert level == "##" or re.match(r"\d+\.\d+ ", text), f"not numbered: {text}"


def test_closing(notebook):
    sections = [text.split(". ", 1)[1] for level, text in headings(notebook) if level == "##"]
    assert sections[-3:] == ["Summary", "Exercises", "What comes next"]


def exercises(notebook):
    """For each exercise its text, its starter cell and its solution, which stand below each other."""
    found = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and re.search(r"\*\*Exercise \d", cell.source):
            found.append(notebook.cells[index : index + 3])
    return found


def test_exercises(notebook):
    found = exercises(notebook)
    assert 3 <= len(found) <= 5
    for number, (text, starter, solution) in enumerate(found, start=1):
        assert text.source.startswith(f"**Exercise {number}.**"), "each exercise has a cell of its own"
        assert starter.cell_type == "code" and "exercise" in tags(starter), "an empty starter cell follows"
        assert solution.cell_type == "code" and "solution" in tags(solution), "then the solution"
        checks = [set(re.findall(r"\bcheck_\w+(?=\()", cell.source)) for cell in (starter, solution)]
        assert checks[0] and checks[0] == checks[1], "the starter and the solution call the same check"


def test_solutions_are_hidden(notebook):
    """In the stored notebook; JupyterLab shows the output of a cell that it runs, whatever its metadata say.

    So what a right answer hears gives nothing away. A fold (<details>) around it would also hide it from the
    learner who has earned it, and make HTML of a line that nbval compares.
    """
    for _, _, solution in exercises(notebook):
        hidden = solution.metadata.get("jupyter", {})
        assert hidden.get("source_hidden") is True, "the source of a solution is collapsed"
        assert hidden.get("outputs_hidden") is True, "its output too: it gives the answer away"


def opening(output, openings):
    """Whether a line of the output begins with one of these."""
    return any(line.startswith(openings) for line in output.splitlines())


def test_checks_say_what_is_stored(notebook):
    for _, starter, solution in exercises(notebook):
        first, second = ("\n".join(map(text_of, cell.outputs)) for cell in (starter, solution))
        assert opening(first, WRONG) and not opening(first, RIGHT), (
            "nothing is answered before the learner starts"
        )
        assert opening(second, RIGHT) and not opening(second, WRONG), "the solution passes its own check"


def is_one_definition(cell):
    """A class or function shown on purpose, with nothing but decorators around it."""
    plain = [line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    body = [
        node for node in ast.parse("\n".join(plain)).body if not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return len(body) == 1 and isinstance(body[0], ast.FunctionDef | ast.ClassDef)


def test_sizes(notebook):
    for cell in code_cells(notebook):
        limit = 30 if is_one_definition(cell) else 15
        assert len(code_lines(cell)) <= limit, f"a code cell does one thing: {cell.source}"
    shown = [cell for cell in code_cells(notebook) if "exercise" not in tags(cell)]
    assert statistics.median(len(code_lines(cell)) for cell in shown) <= 6


def prose_of(cell):
    """The text of a markdown cell without its code fences."""
    return re.sub(r"```.*?```", "", cell.source, flags=re.S)


def test_a_heading_opens_its_cell(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            lines = prose_of(cell).splitlines()
            inside = [line for line in lines[1:] if re.match(r"#+ ", line)]
            assert not inside, f"a heading stands in the middle of a cell: {inside}"


ANNOUNCES_TWO = re.compile(
    r"\b(second|third|fourth|fifth|last|next two|following two|two|three) (code )?cells?\b"
    r"|\b(the )?(cell|one) after (it|that|this)\b|\bcells below\b",
    re.IGNORECASE,
)


def test_no_text_announces_two_cells(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = ANNOUNCES_TWO.search(prose_of(cell))
            assert not found, (
                f"one question, one cell, one answer, but the text says {found[0]!r}: {cell.source}"
            )


def test_a_prediction_is_answered_at_once(notebook):
    """What is to be predicted is asked in the text right above the cell that answers it, one at a time."""
    for cell, following in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "markdown" and "Exercise" not in cell.source:
            asked = len(re.findall(r"\*\*?Predict\b", cell.source))
            assert asked <= 1, f"two predictions in one cell: {cell.source}"
            assert not asked or following.cell_type == "code", f"no cell answers: {cell.source}"


def test_ways_to_the_neighbours(notebook, request):
    """The first and the last cell lead to the previous and the next notebook, and to the contents."""
    folder = NOTEBOOKS[0].parent
    order = sorted(path.name for path in folder.glob("[0-9][0-9]_*.ipynb"))
    title = re.match(r"# (\d\d) ", notebook.cells[0].source)[1]
    place = next(index for index, name in enumerate(order) if name.startswith(title))
    neighbours = order[max(0, place - 1) : place] + order[place + 1 : place + 2]
    for cell in (notebook.cells[0], notebook.cells[-1]):
        for target in (*neighbours, "../../README.md"):
            assert f"]({target})" in cell.source, f"no link to {target}: {cell.source}"


def slug(heading):
    """The anchor that GitHub, JupyterLab and Sphinx make of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_terms_lead_to_the_glossary(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    linked = re.findall(r"\]\(glossary\.md#([^)]+)\)", text)
    glossary = (ROOT / "notebooks/en/glossary.md").read_text(encoding="utf-8")
    anchors = {slug(heading) for heading in re.findall(r"^#+ (.+)$", glossary, flags=re.M)}
    assert len(linked) >= 5, "a term is linked where it is first used"
    assert len(linked) == len(set(linked)), "once, at its first use"
    assert set(linked) <= anchors, f"not in the glossary: {set(linked) - anchors}"


def test_outputs_are_stored_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_have_no_noise(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.get("name") != "stderr", f"stderr output of: {cell.source}"
            if output.output_type == "error":
                assert "raises-exception" in tags(cell), f"error output of: {cell.source}"
            if ALLOWED_NOISE in tags(cell):
                continue
            for what, pattern in NOISE.items():
                match = re.search(pattern, text_of(output))
                assert not match, f"{what} ({match[0]!r}) in the output of: {cell.source}"


def test_most_outputs_are_compared(notebook):
    with_text = [c for c in code_cells(notebook) if any(text_of(o).strip() for o in c.outputs)]
    ignored = [c for c in code_cells(notebook) if "nbval-ignore-output" in tags(c)]
    for cell in ignored:
        assert re.search(r"^# Not compared: .+", cell.source, flags=re.M), "say why it is not compared"
    assert sum(c not in ignored for c in with_text) >= 0.85 * len(with_text)
    for cell in code_cells(notebook):
        assert "nbval-skip" not in tags(cell) and "NBVAL_" not in cell.source, (
            "tags, not comments; never skipped"
        )


def test_metadata_is_normalised(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widget-view" not in json.dumps(notebook), (
        "run tests/maintenance/store_outputs.py: a stored widget shows as a blank"
    )


def test_no_forbidden_code(notebook):
    for cell in code_cells(notebook):
        for word in ("sys.path", "trust_remote_code=True", "pickle", "0.0.0.0", "import pdb"):
            assert word not in cell.source


def test_no_function_in_two_notebooks():
    places = {}
    for path in (p for p in NOTEBOOKS if p.parent.name == "en"):
        for cell in code_cells(nbformat.read(path, as_version=4)):
            plain = "\n".join(
                line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))
            )
            for node in ast.walk(ast.parse(plain)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    places.setdefault(node.name, set()).add(path.name)
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_links_and_pictures_exist():
    for path in [*NOTEBOOKS, ROOT / "README.md", *ROOT.glob("notebooks/*/*.md")]:
        is_notebook = path.suffix == ".ipynb"
        text = path.read_text(encoding="utf-8")
        if is_notebook:
            text = "\n".join(
                c.source for c in nbformat.reads(text, as_version=4).cells if c.cell_type == "markdown"
            )
        targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
        for target in targets:
            if not target.startswith(("http://", "https://", "#", "attachment:")):
                assert (path.parent / target.split("#")[0]).exists(), f"{path.name} links to {target}"


def test_pictures_have_a_text():
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                assert not re.search(r"!\[\]\(", cell.source), f"a picture without alt text in {path.name}"


def test_every_public_function_has_a_docstring():
    for path in HELPERS:
        module = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(module), path
        for node in module.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert node.name == "main" or ast.get_docstring(node), f"{path.name}: {node.name}"


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(arguments):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, str(ROOT)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,  # a safety net: ruff takes less than a second
    )
    assert result.returncode == 0, result.stdout + result.stderr
