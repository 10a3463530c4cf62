"""Which cells of one edition lag behind the other? A lock file remembers both as they last said the same.

    python tests/maintenance/editions.py status           every cell that was changed in one edition only
    python tests/maintenance/editions.py accept 04 ...    you have read both: remember them as they are now
    python tests/maintenance/editions.py accept           the same for all files

The way to change a cell: change it in one edition, bring the other along, let the test of the editions in
tests/notebooks compare code, links, numbers and outputs, then accept. There is one lock file for each
notebook or page, so that two people who work on two notebooks do not meet in it.
"""

import argparse
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "tests" / "notebooks" / "edition_locks"
TREE = re.compile(r"<!-- tree:.*?<!-- end of tree -->", flags=re.DOTALL)  # made by a script, English only


@dataclass(frozen=True)
class Document:
    """A notebook or page with its two editions."""

    name: str
    english: Path
    chinese: Path

    def lock_file(self, locks: Path) -> Path:
        return locks / f"{self.name}.json"


def documents(root: Path = ROOT) -> list[Document]:
    """Everything that the course says in two languages."""
    found = []
    english_folder = root / "notebooks" / "en"
    for english in sorted([*english_folder.glob("*.ipynb"), *english_folder.glob("*.md")]):
        found.append(Document(english.stem, english, root / "notebooks" / "zh" / english.name))
    card = root / "helpers" / "embedded_model" / "corpus" / "card.md"
    for english in (root / "README.md", card):
        if english.is_file():
            found.append(Document(english.stem, english, english.with_name(f"{english.stem}.zh.md")))
    return found


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def hashes(path: Path) -> dict[str, str]:
    """Hash of each cell by its id; of a page by the number of its section, of README as a whole."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return {cell["id"]: short_hash("".join(cell["source"])) for cell in cells}
    if path.name.startswith("README"):
        # The two have another order: the Chinese one begins with AutoDL.
        return {"page": short_hash(TREE.sub("", text))}
    parts = re.split(r"^(?=#{1,6} )", text, flags=re.MULTILINE)
    return {f"section {number}": short_hash(part) for number, part in enumerate(parts)}


def read_lock(document: Document, locks: Path) -> dict[str, list[str]]:
    """Cell -> [hash of the English one, hash of the Chinese one], as they were accepted."""
    file = document.lock_file(locks)
    if not file.is_file():
        return {}
    return json.loads(file.read_text(encoding="utf-8"))


def state(accepted: list[str] | None, english: str | None, chinese: str | None) -> str:
    """What is to be done about one cell; "" if nothing."""
    if english is None:
        return "is in the Chinese edition only"
    if chinese is None:
        return "is in the English edition only"
    if accepted is None:
        return "is new: read both editions, then accept"
    english_changed = english != accepted[0]
    chinese_changed = chinese != accepted[1]
    if english_changed and chinese_changed:
        return "was changed in both editions: read them, then accept"
    if english_changed:
        return "the Chinese edition lags behind"
    if chinese_changed:
        return "the English edition lags behind"
    return ""


def lagging(document: Document, locks: Path = LOCKS) -> list[str]:
    """One line for each cell of a document whose editions were not accepted as they are now."""
    english = hashes(document.english)
    chinese = hashes(document.chinese)
    accepted = read_lock(document, locks)
    lines = []
    for cell in dict.fromkeys([*english, *chinese, *accepted]):
        if cell not in english and cell not in chinese:
            lines.append(f"{document.name} {cell}: is gone from both editions: accept")
            continue
        todo = state(accepted.get(cell), english.get(cell), chinese.get(cell))
        if todo:
            lines.append(f"{document.name} {cell}: {todo}")
    return lines


def accept(document: Document, locks: Path = LOCKS) -> int:
    """Remember both editions as they are; returns the number of cells whose entry changed."""
    english = hashes(document.english)
    chinese = hashes(document.chinese)
    before = read_lock(document, locks)
    after = {cell: [english[cell], chinese[cell]] for cell in english if cell in chinese}
    lines = [f"  {json.dumps(cell)}: {json.dumps(pair)}" for cell, pair in after.items()]
    locks.mkdir(parents=True, exist_ok=True)
    text = "{\n" + ",\n".join(lines) + "\n}\n"  # one cell a line, so that a merge sees single cells
    document.lock_file(locks).write_text(text, encoding="utf-8")
    cells = before.keys() | after.keys()
    return sum(before.get(cell) != after.get(cell) for cell in cells)


def translated(found: list[Document]) -> list[Document]:
    return [document for document in found if document.chinese.is_file()]


def report(found: list[Document]) -> int:
    """Print what lags behind; 1 if anything does. What has no Chinese edition yet is only named."""
    lines = []
    for document in found:
        if document.chinese.is_file():
            lines += lagging(document)
        else:
            print(f"{document.name}: no Chinese edition yet")
    print("\n".join(lines) or "No cell lags behind.")
    return int(bool(lines))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Which cells of one edition lag behind the other?")
    parser.add_argument("what", choices=["status", "accept"])
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 04 or glossary; default: all")
    options = parser.parse_args(arguments)
    names = tuple(options.names) or ("",)
    found = [document for document in documents() if document.name.startswith(names)]
    if not found:
        print(f"No notebook or page begins with {' or '.join(names)}.", file=sys.stderr)
        return 2
    if options.what == "status":
        return report(found)
    for document in translated(found):
        print(f"{document.name}: {accept(document)} entries changed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
