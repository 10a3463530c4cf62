"""Build the website of the course, both editions, from the stored outputs of the notebooks.

    python tests/maintenance/build_site.py [FOLDER] [--pdf]     default: site/; needs pip install -e ".[site]"

With --pdf, the whole course of each edition is printed by Chromium, too: course.en.pdf and course.zh.pdf.

No notebook is run and nothing is fetched: the pages open from the disk, and twice built they are the same.
Any warning of Sphinx is an error, and so is a link that leads nowhere (`site_links`).
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import site_links

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "notebooks" / "_site"
EDITIONS = ("en", "zh")
README = {"en": "README.md", "zh": "README.zh.md"}
CARD = {"en": "README.md", "zh": "README.zh.md"}  # in helpers/embedded_model
NOTES = ("glossary", "first_real_run", "teachers_guide")  # pages after the notebooks, in this order

# Widgets need a kernel: their cell says so, and the site shows a picture of them below. A line of the cell
# tells which widget it is. (The prompt box itself has its picture in the text of notebook 05.)
WIDGETS = {
    "box.show_routing = True": {
        "en": "![The prompt box with a question about experts; below the answer stand its tokens, "
        "each in the colour of an expert](images/05_routing_strip.png)",
        "zh": "![对话框里有一个关于专家的问题；回答下面是它的各个词元，"
        "每个词元的颜色代表一个专家](images/05_routing_strip_zh.png)",
    },
    'Explorer(route_text, tokenizer, "What is a token?")': {
        "en": "![The routing explorer: a text, its tokens as buttons, a slider for the layer, "
        "and a bar for each expert; the dark bars are the chosen ones](images/06_explorer.png)",
        "zh": "![路由查看器：一段文本，每个词元一个按钮，一个选层的滑块，"
        "每个专家一根条；深色条是被选中的专家](images/06_explorer_zh.png)",
    },
}

MARGIN = dict.fromkeys(("top", "bottom", "left", "right"), "15mm")

# A page that sends the reader to the edition of the browser's language. Both are linked, for a browser
# without scripts.
START = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Run a mixture-of-experts model · 动手运行混合专家模型</title>
<script>
const edition = (navigator.language || "").toLowerCase().startsWith("zh") ? "zh" : "en";
location.replace(edition + "/index.html");
</script>
<p><a href="en/index.html" lang="en">English</a> · <a href="zh/index.html" lang="zh-CN">中文</a></p>
</html>
"""


def main() -> None:
    """Build the site into a folder of the learner's choice."""
    parser = argparse.ArgumentParser(description="Build the website of the course, both editions.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "site", help="default: site/")
    parser.add_argument("--pdf", action="store_true", help="print the whole course of each edition, too")
    arguments = parser.parse_args()
    build(arguments.folder, arguments.pdf)
    print(f"The site is in {arguments.folder}: open index.html.")


def build(out: Path, with_pdf: bool = False) -> None:
    """Build both editions into `out`, made anew, and check every link. SystemExit says what is wrong."""
    editions = [edition for edition in EDITIONS if (ROOT / "notebooks" / edition).is_dir()]
    with tempfile.TemporaryDirectory(prefix="course-site-") as name:
        work = Path(name)
        translations(work / "locale")
        pages = {edition: stage(edition, work / edition) for edition in editions}
        built = work / "built"
        for edition in editions:
            others = {page for other in editions if other != edition for page in pages[other]}
            sphinx("html", edition, work, built / edition, sorted(others))
            if with_pdf:
                sphinx("singlehtml", edition, work, work / f"one-{edition}", sorted(others))
                print_pdf(work / f"one-{edition}" / "index.html", built / f"course.{edition}.pdf")
        (built / "index.html").write_text(START, encoding="utf-8")
        faults = site_links.faults(built)
        if faults:
            raise SystemExit("\n".join([*faults, f"{len(faults)} links of the site are broken."]))
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(built, out)


def translations(folder: Path) -> None:
    """Compile the Chinese words of the theme, which Sphinx reads in gettext's binary form."""
    from babel.messages import mofile, pofile  # late: babel comes with Sphinx, which only this command needs

    with (ASSETS / "zh.po").open("rb") as file:
        catalogue = pofile.read_po(file, locale="zh_CN")
    target = folder / "zh_CN" / "LC_MESSAGES"
    target.mkdir(parents=True)
    with (target / "sphinx.mo").open("wb") as file:
        mofile.write_mo(file, catalogue)


# --- one edition, made ready for Sphinx ---


def stage(edition: str, folder: Path) -> list[str]:
    """Lay an edition into `folder` as Sphinx wants it; the names of its pages, without `.html`."""
    source = ROOT / "notebooks" / edition
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "recordings"))
    shutil.copytree(ROOT / "images", folder / "images")
    shutil.copy(ROOT / "helpers" / "embedded_model" / CARD[edition], folder / "model_card.md")
    for file in folder.glob("*.ipynb"):
        notebook = json.loads(file.read_text(encoding="utf-8"))
        stage_notebook(notebook, edition)
        file.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
    for file in folder.glob("*.md"):
        text = file.read_text(encoding="utf-8")
        file.write_text(on_the_site(text, edition), encoding="utf-8")
    notebooks = sorted(file.stem for file in folder.glob("*.ipynb"))
    pages = [*notebooks, *(note for note in NOTES if (folder / f"{note}.md").exists()), "model_card"]
    start = (ASSETS / f"index.{edition}.md").read_text(encoding="utf-8")
    start = start.replace("../../images/", "images/")
    start = start.replace("<!-- chapters -->", chapters(edition))
    start = start.replace("<!-- pages -->", "\n".join(pages))
    (folder / "index.md").write_text(start, encoding="utf-8")
    return ["index", *pages]


def stage_notebook(notebook: dict, edition: str) -> None:
    """Collapse the solutions, describe figures, show widgets, and let the links lead to pages of the site."""
    cells = with_pictures_of_widgets(notebook["cells"], edition)
    notebook["cells"] = cells
    heading = ""
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            text = on_the_site("".join(cell["source"]), edition)
            cell["source"] = text
            first_line = text.partition("\n")[0]
            if first_line.startswith("#"):
                heading = first_line.lstrip("# ")
            continue
        if "solution" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("hide-cell")
        if has_figure(cell):
            following = sentence_after(cells[number + 1 :])
            alt = f"{heading}: {following}" if following else heading
            cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
    notebook["metadata"].setdefault("language_info", {"name": "python"})


def with_pictures_of_widgets(cells: list[dict], edition: str) -> list[dict]:
    """The cells, with a cell of text below each widget of which there is a picture."""
    found = []
    for cell in cells:
        found.append(cell)
        if cell["cell_type"] != "code":
            continue
        lines = "".join(cell["source"]).splitlines()
        for line, pictures in WIDGETS.items():
            if line in lines:
                picture = {"cell_type": "markdown", "metadata": {}, "source": pictures[edition]}
                found.append(picture | {"id": f"{cell['id']}-picture"})
    return found


def has_figure(cell: dict) -> bool:
    """Whether a code cell shows a picture."""
    return any("image/png" in output.get("data", {}) for output in cell["outputs"])


def sentence_after(cells: list[dict]) -> str:
    """What the text after a figure says of it first, without marks: the alt text of the figure."""
    for cell in cells:
        if cell["cell_type"] != "markdown":
            continue
        text = "".join(cell["source"])
        if text.startswith("#"):
            return ""
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        plain = " ".join(re.sub(r"[*`]", "", plain).split())
        return re.split(r"(?<=[.!?])\s|(?<=[。！？])", plain)[0]
    return ""


def on_the_site(text: str, edition: str) -> str:
    """Let the links of a text lead to pages of the site instead of files of the repository."""
    text = re.sub(r"\(\.\./\.\./README(\.zh)?\.md", "(index.md", text)
    text = re.sub(r"\(\.\./\.\./helpers/embedded_model/README(\.zh)?\.md", "(model_card.md", text)
    text = text.replace("../../images/", "images/")
    # The model card names the card in the other language, which lies beside it.
    text = text.replace("](README.zh.md)", "](../zh/model_card.md)").replace(
        "](README.md)", "](../en/model_card.md)"
    )
    text = re.sub(r"\]\(([\w.]*)#([^)\s]+)\)", anchor_of_the_site, text)
    text = re.sub(r"\[([^\]]+)\]\((\w+\.ipynb)\)", lambda link: notebook_link(link, edition), text)
    to_other = r"\[([^\]]+)\]\(\.\./(en|zh)/(\w+)\.(?:ipynb|md)\)"
    return re.sub(to_other, other_edition_link, text)


def other_edition_link(link: re.Match) -> str:
    """A link into the other edition, which is another project for Sphinx, so as plain HTML.

    It leads to the start page there as long as the page is not translated.
    """
    name, edition, page = link.groups()
    files = [f"{page}.ipynb", f"{page}.md"]
    translated = any((ROOT / "notebooks" / edition / file).exists() for file in files)
    if not translated and page != "model_card":
        page = "index"
    return f'<a href="../{edition}/{page}.html" lang="{edition}">{name}</a>'


def notebook_link(link: re.Match, edition: str) -> str:
    """A link to a notebook; where this edition does not have it yet, to the English one."""
    if (ROOT / "notebooks" / edition / link[2]).exists():
        return link[0]
    return f"[{link[1]}](../en/{link[2]})"


def anchor_of_the_site(link: re.Match) -> str:
    """A link to a heading, from JupyterLab's anchor ("1.-Load-it") to that of the site ("1-load-it")."""
    page, anchor = link.groups()
    slug = re.sub(r"[^\w-]", "", anchor).lower()
    return f"]({page}#{slug})"


def chapters(edition: str) -> str:
    """README's table of the notebooks: title, content, minutes, hardware."""
    readme = (ROOT / README[edition]).read_text(encoding="utf-8")
    rows = [line for line in readme.splitlines() if line.startswith("| ")]
    first = next(number for number, row in enumerate(rows) if "01_environment.ipynb" in row) - 2
    table = [rows[first], "| --- | --- | --- | --- |"]
    table += [row for row in rows if f"(notebooks/{edition}/0" in row]
    return on_the_site("\n".join(table).replace(f"(notebooks/{edition}/", "("), edition)


# --- Sphinx ---


def sphinx(builder: str, edition: str, work: Path, out: Path, other_pages: list[str]) -> None:
    """Run a builder of Sphinx on a staged edition. SystemExit with its words if it warns of anything."""
    environment = os.environ | {
        "SITE_LANG": edition,
        "SITE_LOCALE": str(work / "locale"),
        "SITE_OTHER_PAGES": " ".join(other_pages),
        "SOURCE_DATE_EPOCH": "0",  # no time of the build in the pages: twice built is the same
    }
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", builder]
    command += ["-c", str(ROOT / "notebooks"), "-d", str(work / f"{builder}-doctrees-{edition}")]
    done = subprocess.run(
        [*command, str(work / edition), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).replace(str(work), "").strip()
    if done.returncode or said:
        raise SystemExit(f"The {edition} edition of the site has faults:\n{said}")
    # What only a rebuild needs: it differs from build to build, or names folders of this machine.
    (out / ".buildinfo").unlink(missing_ok=True)
    shutil.rmtree(out.parent / "jupyter_execute", ignore_errors=True)
    for file in out.rglob("*webpack-macros.html"):
        file.unlink()


def print_pdf(page: Path, pdf: Path) -> None:
    """Print a page with Chromium, solutions opened."""
    from playwright.sync_api import sync_playwright  # late: only --pdf needs a browser

    chromium = shutil.which("chromium")
    if not chromium:
        raise SystemExit("--pdf prints with Chromium: install it, or leave --pdf out.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(page.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        tab.pdf(path=pdf, format="A4", print_background=True, margin=MARGIN, outline=True, tagged=True)
        browser.close()


if __name__ == "__main__":
    main()
