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
from edition_files import language_of, still_to_come
from fixed_words import WORDS, FixedWords

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
ALLOWED_NOISE = "allow-noise"  # tag of a cell that shows one of these on purpose


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture
def words(path) -> FixedWords:
    """The fixed words of the edition to which the notebook belongs."""
    return WORDS[language_of(path)]


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


def test_opening(notebook, words):
    opening, versions = notebook.cells[:2]
    assert opening.cell_type == "markdown"
    assert re.match(r"# \d\d · .+", opening.source), "the first cell is the title: # NN · Subject"
    for key in words.opening:
        assert f"**{key}**" in opening.source, f"the opening says nothing under **{key}**"
    assert versions.cell_type == "code" and "print_versions(" in versions.source


def test_headings_are_numbered(notebook):
    sections = [text for level, text in headings(notebook) if level == "##"]
    numbers = [re.match(r"(\d+)\. ", text) for text in sections]
    assert all(numbers), f"not numbered: {[t for t, n in zip(sections, numbers, strict=True) if not n]}"
    assert [int(n[1]) for n in numbers] == list(range(1, len(sections) + 1))
    for level, text in headings(notebook):
        assert level == "##" or re.match(r"\d+\.\d+ ", text), f"not numbered: {text}"


def test_closing(notebook, words):
    sections = [text.split(". ", 1)[1] for level, text in headings(notebook) if level == "##"]
    assert sections[-3:] == list(words.closing)


def exercises(notebook, words):
    """For each exercise its text, its starter cell and its solution, which stand below each other."""
    found = []
    begins = re.escape(words.exercise.split("{")[0]) + r"\d"
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and re.search(begins, cell.source):
            found.append(notebook.cells[index : index + 3])
    return found


def test_exercises(notebook, words):
    found = exercises(notebook, words)
    assert 3 <= len(found) <= 5
    for number, (text, starter, solution) in enumerate(found, start=1):
        assert text.source.startswith(words.exercise.format(number=number)), (
            "each exercise has a cell of its own"
        )
        assert starter.cell_type == "code" and "exercise" in tags(starter), "an empty starter cell follows"
        assert solution.cell_type == "code" and "solution" in tags(solution), "then the solution"
        checks = [set(re.findall(r"\bcheck_\w+(?=\()", cell.source)) for cell in (starter, solution)]
        assert checks[0] and checks[0] == checks[1], "the starter and the solution call the same check"


def test_solutions_are_hidden(notebook, words):
    """In the stored notebook; JupyterLab shows the output of a cell that it runs, whatever its metadata say.

    So what a right answer hears gives nothing away. A fold (<details>) around it would also hide it from the
    learner who has earned it, and make HTML of a line that nbval compares.
    """
    for _, _, solution in exercises(notebook, words):
        hidden = solution.metadata.get("jupyter", {})
        assert hidden.get("source_hidden") is True, "the source of a solution is collapsed"
        assert hidden.get("outputs_hidden") is True, "its output too: it gives the answer away"


def test_checks_say_what_is_stored(notebook, words):
    for _, starter, solution in exercises(notebook, words):
        first, second = ("\n".join(map(text_of, cell.outputs)) for cell in (starter, solution))
        assert words.not_yet in first and words.right not in first, "nobody has answered yet"
        assert words.right in second and words.not_yet not in second, "the solution passes its own check"


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


def test_no_text_announces_two_cells(notebook, words):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = words.announces_two.search(prose_of(cell))
            assert not found, (
                f"one question, one cell, one answer, but the text says {found[0]!r}: {cell.source}"
            )


def test_a_prediction_is_answered_at_once(notebook, words):
    """What is to be predicted is asked in the text right above the cell that answers it, one at a time."""
    for cell, following in zip(notebook.cells, notebook.cells[1:], strict=False):
        is_exercise = words.exercise.split("{")[0] in cell.source
        if cell.cell_type == "markdown" and not is_exercise:
            asked = len(re.findall(words.predict, cell.source))
            assert asked <= 1, f"two predictions in one cell: {cell.source}"
            assert not asked or following.cell_type == "code", f"no cell answers: {cell.source}"


def test_ways_to_the_neighbours(path, notebook, words):
    """The first and the last cell lead to the previous and the next notebook, and to the contents."""
    order = sorted(other.name for other in (ROOT / "notebooks" / "en").glob("[0-9][0-9]_*.ipynb"))
    place = order.index(path.name)
    assert notebook.cells[0].source.startswith(f"# {path.name[:2]} ")
    neighbours = order[max(0, place - 1) : place] + order[place + 1 : place + 2]
    for cell in (notebook.cells[0], notebook.cells[-1]):
        for target in (*neighbours, words.contents):
            assert f"]({target})" in cell.source, f"no link to {target}: {cell.source}"


def test_way_to_the_other_edition(path, notebook, words):
    link = f"[{words.other_name}]({words.other_edition}{path.name})"
    assert f" · {link}" in notebook.cells[0].source, f"the first line of links ends with {link}"


def slug(heading):
    """The anchor that GitHub, JupyterLab and Sphinx make of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_terms_lead_to_the_glossary(path, notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    linked = re.findall(r"\]\(glossary\.md#([^)]+)\)", text)
    glossary = (path.parent / "glossary.md").read_text(encoding="utf-8")
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


def test_most_outputs_are_compared(notebook, words):
    with_text = [c for c in code_cells(notebook) if any(text_of(o).strip() for o in c.outputs)]
    ignored = [c for c in code_cells(notebook) if "nbval-ignore-output" in tags(c)]
    for cell in ignored:
        why = rf"^{words.not_compared}.+"
        assert re.search(why, cell.source, flags=re.M), "say why it is not compared"
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
    for path in (p for p in NOTEBOOKS if language_of(p) == "en"):  # the Chinese code is the same
        for cell in code_cells(nbformat.read(path, as_version=4)):
            plain = "\n".join(
                line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))
            )
            for node in ast.walk(ast.parse(plain)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    places.setdefault(node.name, set()).add(path.name)
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_links_and_pictures_exist():
    for path in [*NOTEBOOKS, *ROOT.glob("README*.md"), *ROOT.glob("notebooks/*/*.md")]:
        is_notebook = path.suffix == ".ipynb"
        text = path.read_text(encoding="utf-8")
        if is_notebook:
            text = "\n".join(
                c.source for c in nbformat.reads(text, as_version=4).cells if c.cell_type == "markdown"
            )
        targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
        for target in targets:
            is_elsewhere = target.startswith(("http://", "https://", "#", "attachment:"))
            if not is_elsewhere and not still_to_come(path, target):
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
