"""How Sphinx makes the website of one edition. `python tests/maintenance/build_site.py` calls it for both.

The build script lays a copy of an edition into a folder and sets SITE_LANG; no notebook is run.
"""

import os
import sys
from pathlib import Path

ASSETS = Path(__file__).resolve().parent / "_site"
sys.path.insert(0, str(ASSETS))
from character_pairs import CharacterPairs

EDITION = os.environ["SITE_LANG"]
CHINESE = EDITION == "zh"

project = "动手运行混合专家模型" if CHINESE else "Run a mixture-of-experts model"
language = "zh_CN" if CHINESE else "en"
html_title = project
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

extensions = ["myst_nb", "sphinx_copybutton"]
root_doc = "index"
nb_execution_mode = "off"  # the stored outputs are shown: they are tested
nb_merge_streams = True
nb_code_prompt_show = "查看参考答案" if CHINESE else "Show solution"
nb_code_prompt_hide = "收起参考答案" if CHINESE else "Hide solution"
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_block", "html_image"]

html_theme = "furo"
html_theme_options = {"navigation_with_keys": False}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "language_switch.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
templates_path = [str(ASSETS / "templates")]
html_static_path = [str(ASSETS / "static")]
html_css_files = ["course.css"]
locale_dirs = [os.environ["SITE_LOCALE"]]
# Pages that the other edition has, too: the language switch leads to the same page there.
html_context = {
    "other_edition": "en" if CHINESE else "zh",
    "other_name": "English" if CHINESE else "中文",
    "other_pages": os.environ.get("SITE_OTHER_PAGES", "").split(),
}


def setup(app):
    """Search in Chinese by pairs of characters."""
    if CHINESE:
        app.add_search_language(CharacterPairs)
