"""Slides of notebooks 02, 04 and 06, for a teacher who projects them: HTML that opens offline, and a PDF.

    python tests/maintenance/build_slides.py [FOLDER] [--editions en zh] [--notebooks 02 04 06]

Default folder: slides/. Nothing is run: the slides show the stored outputs. reveal.js and require.js come
from their npm packages, so `npm` and a network are needed once; the folder then stands alone. Chromium prints
the PDF and measures every slide: one that is cut off is an error. Exercises are left out.

Both editions are cut into slides at the same places. Where a slide asks for a prediction, the answer appears
with the next key; in the PDF it is there at once.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
REVEAL = "reveal.js@4.6.1"
REQUIRE = "requirejs@2.3.8"
NOTEBOOKS = ("02", "04", "06")
LANGUAGES = {"en": "en", "zh": "zh-CN"}  # of the editions, as HTML names them
LEFT_OUT = {"solution", "exercise"}
# Every slide begins at the top; in print, what a key would uncover is there at once.
SETTINGS = "center: false, pdfSeparateFragments: false,"

# A slide is 1280 x 720. What fits on it is estimated in pixels before the browser measures it.
HEIGHT = 690  # of the 720; the last 30 are for the arrows
TEXT_LINE = 32
CODE_LINE = 24
GAP = 20  # between paragraphs, cells and outputs
FIGURE = 420
COLUMNS = 104  # characters of a line of text; a Chinese one takes the room of two
STYLE = """
<style>
.reveal { font-size: 24px; }
.reveal section { text-align: left; }
.reveal h1, .reveal h2, .reveal h3 { text-transform: none; }
.reveal h1 { font-size: 1.9em; }
.reveal h2 { font-size: 1.5em; }
.reveal h3 { font-size: 1.2em; }
.reveal p, .reveal li { line-height: 1.35; }
.reveal pre { box-sizing: border-box; margin: 0; }
.reveal pre, .reveal pre code { font-size: 18px !important; line-height: 1.3; }
.reveal table { font-size: 18px; }
.reveal img { display: block; height: FIGUREpx; max-width: 100%; margin: 0 auto; object-fit: contain; }
.reveal .jp-OutputArea-output pre { white-space: pre-wrap; }
.reveal .jp-InputPrompt, .reveal .jp-OutputPrompt { display: none; }
.reveal .controls { font-size: 6px; }
</style>
""".replace("FIGURE", str(FIGURE))


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
    notebook.cells = slide_cells(notebook.cells, nbformat.read(in_other_edition(source), as_version=4).cells)
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
    html = re.sub(r"<html[^>]*>", f'<html lang="{LANGUAGES[source.parent.name]}">', html, count=1)
    # The measuring needs the slides' own object, which require.js keeps to itself.
    html = html.replace("Reveal.initialize({", f"window.Reveal = Reveal; Reveal.initialize({{{SETTINGS}", 1)
    return html.replace("</head>", f"{STYLE}</head>", 1)


def in_other_edition(source: Path) -> Path:
    """The same notebook in the other language: both are cut into slides at the same places."""
    (other,) = set(LANGUAGES) - {source.parent.name}
    return source.parents[1] / other / source.name


@dataclass
class Piece:
    """A cell, or a part of one, that no slide cuts in two."""

    cell: NotebookNode
    height: int  # about how many pixels of a slide it takes, in the edition in which it takes more
    kind: str  # heading, question, text, code or output


def slide_cells(cells: list[NotebookNode], twins: list[NotebookNode]) -> list[NotebookNode]:
    """The cells of a notebook as slides; `twins` are the same cells in the other edition.

    A heading begins a slide, and so does a question. Each cell that comes back says in its metadata whether
    it begins a slide (`slide`), one below it (`subslide`), appears when the teacher presses a key
    (`fragment`: the answer to a question), or goes on (`-`).
    """
    placed = []
    used = HEIGHT  # pixels of the slide that are taken: the first cell begins a new one
    is_asked = False  # whether a question stands on the slide and its answer does not
    for block in blocks_of(pieces_of(cells, twins)):
        first = block[0]
        height = height_of(block)
        place = "-"
        if first.kind == "heading":
            place = "slide"
        elif first.kind == "question" or used + height > HEIGHT:
            place = "subslide"
        elif first.kind == "output" and is_asked:
            place = "fragment"
        used = height + (used if place in ("-", "fragment") else 0)
        is_asked = asks(first.cell.source) or (is_asked and place == "-")
        for piece in block:
            piece.cell.metadata["slideshow"] = {"slide_type": place if piece is first else "-"}
            placed.append(piece.cell)
    return placed


def blocks_of(pieces: list[Piece]) -> list[list[Piece]]:
    """The pieces that stay together on a slide: what a cell prints, and the text that explains it."""
    blocks = []
    for piece in pieces:
        belongs = bool(blocks) and blocks[-1][0].kind == "output" and piece.kind in ("output", "text")
        if belongs and height_of(blocks[-1]) + piece.height <= HEIGHT:
            blocks[-1].append(piece)
        else:
            blocks.append([piece])
    return blocks


def pieces_of(cells: list[NotebookNode], twins: list[NotebookNode]) -> list[Piece]:
    """All cells of the slides in pieces, exercises left out."""
    pieces = []
    is_asked = False  # whether the last question waits for its answer
    for cell, twin in zip(cells, twins, strict=True):
        if LEFT_OUT & set(cell.metadata.get("tags", [])):
            continue
        if cell.cell_type == "code":
            found = code_pieces(cell, twin)
        else:
            found = text_pieces(cell, twin, is_asked)
            is_asked = asks(cell.source)
        for number, piece in enumerate(found):
            piece.cell["id"] = f"{cell.id}-{number}"
        pieces += found
    return pieces


def text_pieces(cell: NotebookNode, twin: NotebookNode, is_asked: bool) -> list[Piece]:
    """A text, cut where a slide is full, and between the last answer and the next question."""
    paragraphs = paragraphs_of(cell.source)
    others = paragraphs_of(twin.source)
    if len(paragraphs) != len(others):  # they say the same, but cannot be cut at the same places
        paragraphs = ["\n\n".join(paragraphs)]
        others = ["\n\n".join(others)]
    answers = is_asked and asks(cell.source) and not asks(paragraphs[0]) and paragraphs[0][:1] not in "#*"
    texts = []
    room = 0
    for number, (own, other) in enumerate(zip(paragraphs, others, strict=True)):
        height = max(height_of_text(own), height_of_text(other))
        if height > room or (answers and number == 1):
            texts.append([])
            room = HEIGHT
        texts[-1].append((own, height))
        room -= height
    return [text_piece(text) for text in texts]


def text_piece(paragraphs: list[tuple[str, int]]) -> Piece:
    """A piece of some paragraphs, each with its height."""
    source = "\n\n".join(text for text, _height in paragraphs)
    kind = "text"
    if source.startswith("#"):
        kind = "heading"
    elif asks(source):
        kind = "question"
    return Piece(nbformat.v4.new_markdown_cell(source), sum(height for _text, height in paragraphs), kind)


def paragraphs_of(text: str) -> list[str]:
    """A text at its blank lines, without links to other pages and the line that consists of them."""
    text = re.sub(r"(?m)^\[← .*$|^\[(contents|目录)\].*$", "", text)
    text = re.sub(r"(?<!!)\[([^\]]*)\]\((?!https:)[^)]*\)", r"\1", text)
    return re.split(r"\n\s*\n", text.strip())


def code_pieces(cell: NotebookNode, twin: NotebookNode) -> list[Piece]:
    """The code of a cell and each of its outputs; bars of progress are left out."""
    height = max(len(each.source.splitlines()) for each in (cell, twin)) * CODE_LINE + GAP
    pieces = [Piece(nbformat.v4.new_code_cell(cell.source), height, "code")]
    for output, other in zip(cell.outputs, twin.outputs, strict=True):
        if re.search(r"\d%\|", output.get("data", {}).get("text/plain", "")):
            continue
        shown = nbformat.v4.new_code_cell(outputs=[output], metadata={"transient": {"remove_source": True}})
        pieces.append(Piece(shown, max(height_of_output(output), height_of_output(other)), "output"))
    return pieces


def asks(text: str) -> bool:
    """Whether a text asks for a prediction: a new idea, so a new slide."""
    return "*Predict" in text or "**先预测" in text


def height_of(block: list[Piece]) -> int:
    """About how many pixels of a slide some pieces take."""
    return sum(piece.height for piece in block)


def height_of_output(output: NotebookNode) -> int:
    """About how many pixels of a slide an output takes."""
    data = output.get("data", {})
    if "image/png" in data:
        return FIGURE + GAP
    text = output.get("text") or data.get("text/plain", "")
    return lines_of(text) * CODE_LINE + GAP


def height_of_text(paragraph: str) -> int:
    """About how many pixels of a slide a paragraph takes."""
    if paragraph.startswith(("![", "<img")):
        return FIGURE + GAP
    return lines_of(paragraph) * TEXT_LINE + GAP


def lines_of(text: str) -> int:
    """About how many lines of a slide a text takes."""
    lines = 0
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
        slides = measured(tab, page)
        faults = cut_off(slides)
        if faults:
            raise SystemExit(f"{page.name}: cut off: {'; '.join(faults)}")
        # Without the ranges, the PDF would end with an empty page.
        ranges = f"1-{len(slides)}"
        pdf = page.with_suffix(".pdf")
        tab.pdf(path=pdf, width="1280px", height="720px", print_background=True, page_ranges=ranges)
        browser.close()
    return len(slides)


def measured(tab, page: Path) -> list[tuple[str, int, int]]:
    """Open the slides for print: of each, the first words, the height, and by how much code is too wide."""
    tab.goto(page.as_uri() + "?print-pdf")
    tab.wait_for_selector(".pdf-page", timeout=120_000)
    return tab.evaluate(MEASURE)


def cut_off(slides: list[tuple[str, int, int]]) -> list[str]:
    """The first words of the slides that are higher than the screen, or whose code is wider."""
    return [title for title, height, too_wide in slides if height > 720 or too_wide > 0]


# In the pixels of a slide.
MEASURE = """
() => [...document.querySelectorAll('.pdf-page > section')].map((slide) => [
  slide.innerText.trim().slice(0, 60),
  slide.scrollHeight,
  Math.max(0, ...[...slide.querySelectorAll('pre')].map((code) => code.scrollWidth - code.clientWidth)),
])
"""

if __name__ == "__main__":
    sys.exit(main())
