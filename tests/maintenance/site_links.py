"""Every link, picture, script and anchor of the built site exists, and nothing is loaded from elsewhere.

By hand, for a site that is built:

    python tests/maintenance/site_links.py FOLDER
"""

import html.parser
import sys
import urllib.parse
from pathlib import Path


class Page(html.parser.HTMLParser):
    """The anchors of a page, and what it refers to as (tag, address)."""

    def __init__(self, file: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.references: list[tuple[str, str]] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep ids, names and addresses."""
        found = dict(attrs)
        for key in ("id", "name"):
            if found.get(key):
                self.anchors.add(found[key])
        for key in ("href", "src"):
            if found.get(key):
                self.references.append((tag, found[key]))


def faults(site: Path) -> list[str]:
    """One line for each reference of the site that leads nowhere or loads something from elsewhere."""
    site = site.resolve()
    pages = {file: Page(file) for file in sorted(site.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        for tag, address in page.references:
            fault = fault_of(file, tag, address, pages)
            if fault:
                found.append(f"{file.relative_to(site)}: {fault}: {address[:90]}")
    return found


def fault_of(file: Path, tag: str, address: str, pages: dict[Path, Page]) -> str:
    """What is wrong with a reference of a page; "" if nothing is."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme in ("http", "https"):
        if tag != "a":
            return "loaded from elsewhere"
        return "" if parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost") else "not https"
    if parts.scheme:
        return "" if parts.scheme in ("data", "mailto") else "a strange address"
    target = file
    if parts.path:
        target = (file.parent / urllib.parse.unquote(parts.path)).resolve()
    if target.is_dir():
        target = target / "index.html"
    if not target.exists():
        return "no such file"
    anchor = urllib.parse.unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "no such anchor"
    return ""


if __name__ == "__main__":
    lines = faults(Path(sys.argv[1]))
    print("\n".join([*lines, f"{len(lines)} broken"]))
    sys.exit(bool(lines))
