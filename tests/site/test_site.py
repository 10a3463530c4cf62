"""The website: built without a warning, twice the same, readable offline in both languages and on a phone."""

import filecmp
import importlib.util
import re
import sys
from pathlib import Path

import pytest

MAINTENANCE = Path(__file__).resolve().parents[1] / "maintenance"
sys.path.insert(0, str(MAINTENANCE))
import build_site  # noqa: E402 - the scripts of tests/maintenance are no package
import site_links  # noqa: E402

if importlib.util.find_spec("sphinx") is None:
    pytest.skip('the website needs pip install -e ".[site]"', allow_module_level=True)

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "built"
    build_site.build(folder)
    return folder


def different(left: Path, right: Path) -> list[str]:
    """Names of the files that two folders do not share byte for byte."""
    names = {file.relative_to(root) for root in (left, right) for file in root.rglob("*") if file.is_file()}
    _same, differing, missing = filecmp.cmpfiles(left, right, sorted(map(str, names)), shallow=False)
    return differing + missing


def test_built_twice_it_is_the_same(site, tmp_path):
    build_site.build(tmp_path / "again")
    assert different(site, tmp_path / "again") == []


def test_every_notebook_has_a_page_in_both_editions(site):
    for edition in ("en", "zh"):
        for notebook in (build_site.ROOT / "notebooks" / edition).glob("*.ipynb"):
            assert (site / edition / f"{notebook.stem}.html").exists()


def test_the_language_switch_leads_to_the_same_page(site):
    page = (site / "en" / "06_routing.html").read_text(encoding="utf-8")
    assert '<a href="../zh/06_routing.html" lang="zh"' in page


def test_solutions_are_collapsed(site):
    for page in sorted(site.glob("*/0*.html")):
        text = page.read_text(encoding="utf-8")
        details = re.findall(r"<details[^>]*>", text)
        assert len(details) == text.count("tag_solution")
        assert not any("open" in tag for tag in details)


def test_every_picture_has_an_alt_text(site):
    for page in sorted(site.glob("*/*.html")):
        for picture in re.findall(r"<img[^>]*>", page.read_text(encoding="utf-8")):
            alt = re.search(r'alt="([^"]*)"', picture)
            assert alt and len(alt[1]) > 8 and not alt[1].endswith(".png"), f"{page.name}: {picture[:200]}"


@pytest.mark.parametrize("edition, ending", [("en", ".png"), ("zh", "_zh.png")])
@pytest.mark.parametrize(
    "page, picture",
    [
        ("05_prompt_box", "05_prompt_box"),
        ("05_prompt_box", "05_routing_strip"),
        ("06_routing", "06_explorer"),
    ],
)
def test_a_widget_has_a_picture(site, edition, ending, page, picture):
    text = (site / edition / f"{page}.html").read_text(encoding="utf-8")
    assert text.count(f'src="_images/{picture}{ending}"') == 1


# The check of the links can fail


@pytest.mark.parametrize(
    "text, fault",
    [
        ('<a href="nowhere.html">x</a>', "no such file"),
        ('<a href="other.html#there">x</a>', "no such anchor"),
        ('<a href="#here">x</a>', "no such anchor"),
        ('<img src="https://example.com/x.png">', "loaded from elsewhere"),
        ('<script src="https://example.com/x.js"></script>', "loaded from elsewhere"),
        ('<a href="http://example.com">x</a>', "not https"),
        ('<a href="javascript:alert(1)">x</a>', "a strange address"),
    ],
)
def test_a_broken_link_is_found(tmp_path, text, fault):
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    (tmp_path / "other.html").write_text('<p id="here">x</p>', encoding="utf-8")
    (found,) = site_links.faults(tmp_path)
    assert found.startswith(f"page.html: {fault}")


def test_good_links_are_no_faults(tmp_path):
    text = '<p id="a"><a href="other.html#here">x</a><a href="#a">y</a><a href="https://example.com">z</a>'
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    (tmp_path / "other.html").write_text('<p id="here">x</p>', encoding="utf-8")
    assert site_links.faults(tmp_path) == []


# In a browser


@pytest.mark.parametrize("edition", ["en", "zh"])
def test_every_page_is_quiet_offline_and_fits_a_phone(site, chromium, edition):
    page = chromium.new_page(viewport=PHONE)
    said = []
    asked = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for file in sorted((site / edition).glob("*.html")):
        page.goto(file.as_uri())
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{file.name} is {width} pixels wide on a phone"
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize(
    "edition, words", [("en", "shared expert"), ("zh", "共享专家"), ("zh", "路由器"), ("zh", "hook")]
)
def test_the_search_finds_the_terms_of_the_course(site, chromium, edition, words):
    page = chromium.new_page()
    page.goto((site / edition / "search.html").as_uri() + f"?q={words}")
    results = page.locator("#search-results ul.search li")
    results.first.wait_for(timeout=60_000)
    assert "06" in page.locator("#search-results").inner_text()
    page.close()


def test_the_start_page_leads_to_an_edition(site, chromium):
    page = chromium.new_page(locale="zh-CN")
    page.goto((site / "index.html").as_uri())
    page.wait_for_url("**/zh/index.html", timeout=60_000)
    page.close()
