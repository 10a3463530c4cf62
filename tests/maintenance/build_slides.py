"""Slides of notebooks 02, 04 and 06, for a teacher who projects them: HTML that opens offline, and a PDF.

    python tests/maintenance/build_slides.py [FOLDER] [--editions en zh] [--notebooks 02 04 06]

Default folder: slides/. Nothing is run: the slides show the stored outputs. reveal.js and require.js come
from their npm packages, so `npm` and a network are needed once; the folder then stands alone. Chromium prints
the PDF and measures every slide: one that is cut off is an error. Exercises are left out.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
REVEAL = "reveal.js@4.6.1"
REQUIRE = "requirejs@2.3.8"
NOTEBOOKS = ("02", "04", "06")
LEFT_OUT = {"solution", "exercise"}

# A slide is 1280 x 720. About so many lines of its text fit on it; the browser measures whether they do.
LINES = 22
LINES_OF_FIGURE = 15
COLUMNS = 96  # characters of a line of text; a Chinese one takes the room of two
STYLE = """
<style>
.reveal { font-size: 24px; }
.reveal section { text-align: left; }
.reveal h1, .reveal h2, .reveal h3 { text-transform: none; }
.reveal h1 { font-size: 1.9em; }
.reveal h2 { font-size: 1.5em; }
.reveal h3 { font-size: 1.2em; }
.reveal p, .reveal li { line-height: 1.35; }
.reveal pre, .reveal pre code { font-size: 18px; line-height: 1.3; }
.reveal table { font-size: 18px; }
.reveal img { max-height: 520px; margin: 0; }
.reveal .jp-OutputArea-output pre { white-space: pre-wrap; }
.reveal .jp-InputPrompt, .reveal .jp-OutputPrompt { display: none; }
</style>
"""


def main() -> None:
    """Build the slides that the command line asks for."""
    parser = argparse.ArgumentParser(description="Slides of the course, as HTML and PDF.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "slides", help="default: slides/")
    parser.add_argument("--editions", nargs="+", default=["en", "zh"], choices=["en", "zh"])
    parser.add_argument("--notebooks", nargs="+", default=NOTEBOOKS, help="default: 02 04 06")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    vendor(arguments.folder)
    for edition in arguments.editions:
        for number in arguments.notebooks:
            (source,) = (ROOT / "notebooks" / edition).glob(f"{number}_*.ipynb")
            page = arguments.folder / f"{source.stem}.{edition}.html"
            page.write_text(slides_of(source), encoding="utf-8")
            print(f"{page.name}: {print_slides(page)} slides")


def vendor(folder: Path) -> None:
    """Lay reveal.js and require.js into the folder, from their npm packages."""
    if (folder / "reveal.js" / "require.js").exists():
        return
    npm = shutil.which("npm")
    if not npm:
        raise SystemExit("The slides need npm, which fetches reveal.js: install Node.js and try again.")
    with tempfile.TemporaryDirectory() as name:
        packed = subprocess.run([npm, "pack", "--silent", REVEAL, REQUIRE], cwd=name, check=False)
        if packed.returncode:
            raise SystemExit("npm could not fetch reveal.js: see its words above, then run this again.")
        for archive in Path(name).glob("*.tgz"):
            with tarfile.open(archive) as file:
                file.extractall(Path(name) / archive.stem, filter="data")
        (reveal,) = Path(name).glob("reveal.js-*/package")
        (require,) = Path(name).glob("requirejs-*/package/require.js")
        for part in ("dist", "plugin"):
            shutil.copytree(reveal / part, folder / "reveal.js" / part, dirs_exist_ok=True)
        shutil.copy(require, folder / "reveal.js" / "require.js")


# --- from cells to slides ---


def slides_of(source: Path) -> str:
    """The HTML of the slides of one notebook."""
    notebook = nbformat.read(source, as_version=4)
    notebook.cells = slide_cells(notebook.cells)
    exporter = SlidesExporter(
        reveal_url_prefix="reveal.js",
        require_js_url="reveal.js/require.js",
        reveal_theme="white",
        reveal_transition="none",
        reveal_width="1280",
        reveal_height="720",
        # Nothing from elsewhere: no formulas, no diagrams and no widgets are on the slides.
        jquery_url="",
        mathjax_url="",
        mermaid_js_url="",
        widget_renderer_url="",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    exporter.register_preprocessor("nbconvert.preprocessors.TagRemovePreprocessor", enabled=False)
    html, _resources = exporter.from_notebook_node(notebook, {"metadata": {"name": source.stem}})
    html = re.sub(r'<script type="module">.*?mermaid.*?</script>', "", html, count=1, flags=re.DOTALL)
    html = re.sub(r'<script[^>]*src=""[^>]*></script>', "", html)
    html = re.sub(r"var update = function.*?'slidechanged', update\);", "", html, count=1, flags=re.DOTALL)
    html = html.replace("../../images/", "images/")
    # The measuring needs the slides' own object, which require.js keeps to itself.
    html = html.replace("Reveal.initialize(", "window.Reveal = Reveal; Reveal.initialize(", 1)
    return html.replace("</head>", f"{STYLE}</head>", 1)


def slide_cells(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells of a notebook as slides: a heading begins a slide, and a slide is as long as the screen.

    Each cell that comes back says in its metadata whether it begins a slide (`slide`), one below it
    (`subslide`), or goes on (`-`).
    """
    placed = []
    used = LINES  # lines on the slide so far: the first cell begins a new one
    for cell in cells:
        if LEFT_OUT & set(cell.metadata.get("tags", [])):
            continue
        for part in parts_of(cell):
            lines = lines_of(part)
            kind = "-"
            if is_heading(part):
                kind = "slide"
            elif used + lines > LINES or asks(part):
                kind = "subslide"
            used = lines if kind != "-" else used + lines
            part.metadata["slideshow"] = {"slide_type": kind}
            placed.append(part)
    return placed


def parts_of(cell: NotebookNode) -> list[NotebookNode]:
    """A cell, in pieces that fit on a slide: text at its blank lines, code and its output."""
    if cell.cell_type == "markdown":
        return [text_cell(text) for text in text_parts(cell.source)]
    if lines_of(cell) <= LINES or not cell.outputs:
        return [cell]
    code = nbformat.v4.new_code_cell(cell.source)
    return [code, *(output_cell([output]) for output in cell.outputs)]


def text_parts(text: str) -> list[str]:
    """A text in pieces of at most a slide, cut at blank lines."""
    parts = [""]
    for paragraph in re.split(r"\n\s*\n", text):
        longer = f"{parts[-1]}\n\n{paragraph}".strip()
        if parts[-1] and text_lines(longer) > LINES:
            parts.append(paragraph)
        else:
            parts[-1] = longer
    return parts


def text_cell(text: str) -> NotebookNode:
    """A cell of text, without the line of links to other notebooks."""
    text = re.sub(r"(?m)^\[← .*$|^\[(contents|目录)\].*$", "", text)
    return nbformat.v4.new_markdown_cell(text)


def output_cell(outputs: list[NotebookNode]) -> NotebookNode:
    """An output alone, without the code that made it."""
    return nbformat.v4.new_code_cell("", outputs=outputs)


def is_heading(cell: NotebookNode) -> bool:
    """Whether a cell opens a section."""
    return cell.cell_type == "markdown" and cell.source.startswith(("# ", "## ", "### "))


def asks(cell: NotebookNode) -> bool:
    """Whether a text asks for a prediction: a new idea, so a new slide."""
    return cell.cell_type == "markdown" and ("*Predict" in cell.source or "**先预测" in cell.source)


def lines_of(cell: NotebookNode) -> int:
    """About how many lines of a slide a cell takes."""
    if cell.cell_type == "markdown":
        return text_lines(cell.source)
    lines = len(cell.source.splitlines()) + 1
    for output in cell.outputs:
        lines += output_lines(output)
    return lines


def output_lines(output: NotebookNode) -> int:
    """About how many lines of a slide an output takes."""
    data = output.get("data", {})
    if "image/png" in data:
        return LINES_OF_FIGURE
    text = output.get("text") or data.get("text/plain", "")
    return text_lines(text)


def text_lines(text: str) -> int:
    """About how many lines of a slide a text takes, with its pictures and some room between paragraphs."""
    lines = LINES_OF_FIGURE * text.count("../../images/")
    for line in text.splitlines():
        width = sum(2 if ord(character) > 0x2E7F else 1 for character in line)
        lines += 1 + width // COLUMNS
    return lines


# --- in the browser ---


def print_slides(page: Path) -> int:
    """Measure every slide in Chromium and print the PDF beside the page; the number of slides."""
    from playwright.sync_api import sync_playwright  # late: only this command needs a browser

    chromium = shutil.which("chromium")
    if not chromium:
        raise SystemExit("The slides are measured and printed by Chromium: install it, then run this again.")
    if not (page.parent / "images").exists():
        shutil.copytree(ROOT / "images", page.parent / "images", ignore=shutil.ignore_patterns("*.py"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 720})
        tab.goto(page.as_uri())
        tab.wait_for_function("window.Reveal && Reveal.isReady()")
        heights = tab.evaluate(HEIGHTS)
        too_tall = [title for title, height in heights if height > 720]
        if too_tall:
            raise SystemExit(f"{page.name}: cut off: {'; '.join(too_tall)}")
        tab.goto(page.as_uri() + "?print-pdf")
        tab.wait_for_selector(".pdf-page")
        tab.pdf(path=page.with_suffix(".pdf"), width="1280px", height="720px", print_background=True)
        browser.close()
    return len(heights)


# Title and height of every slide that is shown alone, in the pixels of a slide.
HEIGHTS = """
() => {
  const heights = [];
  for (const slide of Reveal.getSlides()) {
    const {h, v} = Reveal.getIndices(slide);
    Reveal.slide(h, v);
    heights.push([slide.innerText.trim().slice(0, 60), slide.scrollHeight]);
  }
  return heights;
}
"""

if __name__ == "__main__":
    sys.exit(main())
