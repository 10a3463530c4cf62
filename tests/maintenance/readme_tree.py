"""Write the tree of files in README.md: one line a file, with what the file says of itself.

    python tests/maintenance/readme_tree.py

For Python files that is the first line of the docstring, so that nothing is said twice. A test compares the
tree with `git ls-files`: a new file needs a docstring, or a line in `SAID_HERE`.
"""

import ast
import fnmatch
import json
import re
import subprocess
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
START = "<!-- tree: made by tests/maintenance/readme_tree.py -->"
END = "<!-- end of tree -->"
WIDTH = 38  # characters before the description
# Files that cannot speak for themselves. A pattern with * stands for all of its files in one line.
SAID_HERE = {
    ".ci/run": "What CI does: a fresh environment, then README's test command",
    ".gitignore": "What git leaves alone",
    ".github/ISSUE_TEMPLATE/*": "What a report of a fault should say",
    ".github/workflows/site.yml": "Builds the website and puts it on GitHub Pages",
    "CITATION.cff": "How to cite the course",
    "LICENSE": "Apache License 2.0 for code and weights, CC BY 4.0 for text and figures",
    "README.md": "This page",
    "README.zh.md": "This page in Chinese",
    "pyproject.toml": "Metadata, and the settings of pytest and ruff",
    "requirements.txt": "What a learner installs",
    "notebooks/_site/index.*.md": "The start page of the website",
    "notebooks/_site/static/*.css": "How its figures, tables and printed pages look",
    "notebooks/_site/templates/*.html": "The switch between the languages",
    "notebooks/_site/zh.po": "Words of the theme in Chinese",
    "images/05_prompt_box*.png": "Pictures of the prompt box, taken by tests/browser",
    "images/05_routing_strip*.png": "Pictures of the tokens of an answer in the colours of their experts",
    "images/06_explorer*.png": "Pictures of the routing explorer, taken by tests/browser",
    "images/autodl_choices*.svg": "What to choose when renting",
    "images/memory_over_time*.svg": "The memory of a card while the model loads, reads and answers",
    "images/moe_layer*.svg": "One layer of the model",
    "images/routing_heatmap*.svg": "For which kind of text each expert of the embedded model works",
    "images/routing_heatmap.json": "The counts that it shows, recorded by its script",
    "images/two_cards*.svg": "Which layer lies on which of two cards",
    "helpers/zh.json": "Chinese sentences of the modules beside it",
    "helpers/*/zh.json": "Its sentences in Chinese",
    "helpers/embedded_model/README.zh.md": "The same in Chinese",
    "helpers/embedded_model/corpus/card.zh.md": "The text of the Chinese model card",
    "helpers/embedded_model/corpus/card_words.json": "The words in the tables of the Chinese model card",
    "helpers/embedded_model/corpus/*.json": "What it learned from: subjects, functions, chats, ways to ask",
    "helpers/embedded_model/model*.safetensors*": "Its weights in bf16, and the index of their tensors",
    "helpers/embedded_model/*token*": "Its tokenizer",
    "helpers/embedded_model/*.jinja": "Its chat template, ChatML as in the real model",
    "helpers/embedded_model/*config.json": "Its shape, and how it generates",
    "notebooks/zh/[0-9]*.ipynb": "The same notebooks in Chinese",
    "notebooks/zh/*.md": "The same pages in Chinese",
    "tests/notebooks/edition_locks/*.json": "The cells of both editions as they were last compared",
    "tests/embedded_model/function_values.json": "What the functions of the embedded model must return",
    "helpers/embedded_model/training_results.json": "Figures of its training, for the model card",
    "helpers/environment/language_models.txt": "Every model_type of transformers that writes text",
    "helpers/speed/results/*.json": "What the full-size benchmark measured on this GPU",
    "helpers/vram/*.config.json": "The configuration of the real model",
    "helpers/download/*.files.json": "The file list of the real model, as an example",
    "helpers/prompt_box/*.css": "How the box looks",
    "helpers/prompt_box/*.js": "What the box does in the page",
    "tests/sanitize.cfg": "What may differ between two runs of a notebook",
}


def tracked_files() -> list[str]:
    """Every file of the course, as git lists them."""
    run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in run.stdout.splitlines() if (ROOT / name).is_file()]


def pattern_of(name: str) -> str:
    """The entry of SAID_HERE that speaks for this file; "" if there is none."""
    for pattern in SAID_HERE:
        if fnmatch.fnmatch(name, pattern):
            return pattern
    return ""


def own_words(name: str) -> str:
    """What a file says of itself: the first line of its docstring, its title, or "" if it says nothing."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        docstring = ast.get_docstring(ast.parse(text)) or ""
        return docstring.split("\n")[0]
    if name.endswith(".ipynb"):
        text = "".join(json.loads(text)["cells"][0]["source"])
    title = re.match(r"# (.+)", text)
    if title:
        return title[1]
    return ""


def entries() -> list[tuple[str, str]]:
    """(file or pattern, description) in the order of the tree."""
    found = {}
    for name in tracked_files():
        pattern = pattern_of(name)
        if pattern:
            found[pattern] = SAID_HERE[pattern]
        else:
            found[name] = own_words(name)
    return sorted(found.items(), key=lambda entry: (PurePosixPath(entry[0]).parent.parts, entry[0]))


def silent_files() -> list[str]:
    """Files that say nothing of themselves and have no line in SAID_HERE."""
    return [name for name, words in entries() if not words]


def tree() -> str:
    """The tree as the text of a code fence: folders as headings, files indented below them."""
    lines = []
    folder = ""
    for name, words in entries():
        parent = str(PurePosixPath(name).parent)
        if parent not in (folder, "."):
            lines.append(f"{parent}/")
        folder = parent
        indent = ""
        if parent != ".":
            indent = "  "
        lines.append(f"{indent}{PurePosixPath(name).name:<{WIDTH - len(indent)}} {words.rstrip('.')}")
    return "\n".join(lines)


def readme_with_tree() -> str:
    """README.md with a fresh tree between its two marks."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n```text\n{tree()}\n```\n{END}{after}"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme_with_tree(), encoding="utf-8")
    print(f"{len(entries())} lines")
