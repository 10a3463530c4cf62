"""Compare the two editions of a notebook cell by cell, and those of a page section by section."""

import json
import re
from pathlib import Path

from edition_code import code_differences
from edition_files import CHINESE, ENGLISH, own_examples
from edition_outputs import output_differences
from edition_prose import glossary_anchors, text_differences

GLOSSARY = "glossary.md"


def read_notebook(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def glossary() -> dict[str, str]:
    """Chinese anchor -> English anchor; empty while there is no Chinese glossary."""
    if not (CHINESE / GLOSSARY).is_file():
        return {}
    pages = [(folder / GLOSSARY).read_text(encoding="utf-8") for folder in (ENGLISH, CHINESE)]
    return glossary_anchors(*pages)


def cell_differences(english: dict, chinese: dict, anchors: dict[str, str], own_example: bool) -> list[str]:
    """What differs between two cells with the same id."""
    if english["cell_type"] != chinese["cell_type"]:
        return [f"kind of cell: {english['cell_type']} / {chinese['cell_type']}"]
    found = []
    if english["metadata"] != chinese["metadata"]:
        found.append(f"metadata: {english['metadata']} / {chinese['metadata']}")
    source = "".join(english["source"])
    chinese_source = "".join(chinese["source"])
    if english["cell_type"] == "code":
        found += code_differences(source, chinese_source, own_example)
        found += output_differences(english, chinese, own_example)
    else:
        found += text_differences(source, chinese_source, anchors, own_example)
    return found


def notebook_differences(
    english: dict, chinese: dict, anchors: dict[str, str], own: set[str] = frozenset()
) -> list[str]:
    """One sentence for each difference, with its cell. `own`: cells with an example of their own."""
    found = []
    if english["metadata"] != chinese["metadata"]:
        found.append("metadata of the notebook")
    ids = [cell["id"] for cell in english["cells"]]
    chinese_ids = [cell["id"] for cell in chinese["cells"]]
    if ids != chinese_ids:
        only_english = [name for name in ids if name not in chinese_ids]
        only_chinese = [name for name in chinese_ids if name not in ids]
        found.append(f"cells: only English {only_english}, only Chinese {only_chinese}, or another order")
    by_id = {cell["id"]: cell for cell in chinese["cells"]}
    for cell in english["cells"]:
        other = by_id.get(cell["id"])
        if other is not None:
            for difference in cell_differences(cell, other, anchors, cell["id"] in own):
                found.append(f"{cell['id']}: {difference}")
    return found


def sections(page: str) -> list[str]:
    """A page cut at its headings; what looks like a heading inside a code block is none."""
    lines = page.splitlines()
    parts = [[]]
    inside_fence = False
    for line in lines:
        if line.lstrip().startswith("```"):
            inside_fence = not inside_fence
        if re.match(r"#{1,6} ", line) and not inside_fence:
            parts.append([])
        parts[-1].append(line)
    return ["\n".join(part) for part in parts if part]


def page_differences(english: str, chinese: str, anchors: dict[str, str]) -> list[str]:
    """One sentence for each difference of two pages, with the heading of its section."""
    left = sections(english)
    right = sections(chinese)
    if len(left) != len(right):
        return [f"sections: {len(left)} / {len(right)}"]
    found = []
    for section, chinese_section in zip(left, right, strict=True):
        heading = section.splitlines()[0]
        for difference in text_differences(section, chinese_section, anchors):
            found.append(f"{heading}: {difference}")
    return found


def compare(english: Path, chinese: Path) -> list[str]:
    """The differences of two files, notebooks or pages."""
    if english.suffix == ".ipynb":
        notebooks = [read_notebook(path) for path in (english, chinese)]
        return notebook_differences(*notebooks, glossary(), own_examples(english.stem))
    pages = [path.read_text(encoding="utf-8") for path in (english, chinese)]
    return page_differences(*pages, glossary())
