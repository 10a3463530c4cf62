"""Which files belong together in the two editions, and what is agreed about single cells."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = ROOT / "notebooks" / "en"
CHINESE = ROOT / "notebooks" / "zh"

#: Notebooks and pages whose Chinese edition is finished: for these it must be there, and equal.
MUST_EXIST = [
    "01_environment",
    "02_vram",
    "03_download",
    "04_inference",
    "05_prompt_box",
    "06_routing",
    "07_speed_and_scale",
    "first_real_run",
    "glossary",
    "teachers_guide",
]

#: "notebook#cell" -> why the Chinese edition has an example of its own there, such as a prompt in Chinese.
#: Strings and numbers of such a cell are not compared; its greedy answers are checked for their margin too.
OWN_EXAMPLES: dict[str, str] = {}


def notebook_pairs() -> list[tuple[Path, Path]]:
    """Every English notebook with the place of its Chinese one, which need not exist yet."""
    return [(path, CHINESE / path.name) for path in sorted(ENGLISH.glob("*.ipynb"))]


def page_pairs() -> list[tuple[Path, Path]]:
    """Pages that are compared section by section: glossary, first real run, model card."""
    pages = [(path, CHINESE / path.name) for path in sorted(ENGLISH.glob("*.md"))]
    card = ROOT / "helpers" / "embedded_model" / "README.md"
    return [*pages, (card, card.with_name("README.zh.md"))]


def language_of(path: Path) -> str:
    """`en` or `zh`: the folder of a notebook or page."""
    return path.parent.name


def still_to_come(path: Path, target: str) -> bool:
    """Whether a link of `path` leads to a Chinese notebook that is not translated yet."""
    place = Path(os.path.normpath(path.parent / target))
    return place.parent == CHINESE and place.suffix == ".ipynb" and place.stem not in MUST_EXIST


def own_examples(name: str) -> set[str]:
    """Ids of the cells of a notebook in which the Chinese edition has an example of its own."""
    found = set()
    for key in OWN_EXAMPLES:
        notebook, cell = key.split("#")
        if notebook == name:
            found.add(cell)
    return found
