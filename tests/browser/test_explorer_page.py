"""The routing explorer in a real JupyterLab page: a token is clicked, a layer picked, a text typed."""

from pathlib import Path

import pytest
from chat_page import NotebookPage

HERE = Path(__file__).parent
SETUP = f"import sys; sys.path.insert(0, {str(HERE)!r})\nimport fake_routing"
TEXT = "What is a 词元 ? <b>bold</b> <img/src=x/onerror=window.hacked=1>"

# As in notebook 06, on the embedded model.
REAL = """
import os
from helpers import EMBEDDED_MODEL, inference
from helpers.routing import Explorer, RoutingRecorder
model, tokenizer = inference.load(EMBEDDED_MODEL)

def route_text(text):
    with RoutingRecorder(model, keep_logits=True) as recorder:
        model(**tokenizer(text, return_tensors="pt"))
    return recorder.routing

os.environ["COURSE_LANG"] = "en"
Explorer(route_text, tokenizer, "What is a mixture of experts?").add_class("english")
"""
CHINESE = """
os.environ["COURSE_LANG"] = "zh"
Explorer(route_text, tokenizer, "什么是词元？").add_class("chinese")
"""


@pytest.fixture(scope="module")
def notebook(lab, browser):
    address = lab.write("explorer.ipynb", SETUP, f"fake_routing.make_explorer({TEXT!r})")
    notebook = NotebookPage(browser, address)
    notebook.run_all()
    notebook.page.get_by_text("Token 0, 'What', layer 0").wait_for()
    yield notebook
    notebook.page.close()


@pytest.fixture
def page(notebook):
    return notebook.page


def test_a_click_on_a_token_and_a_step_to_the_next_layer(page):
    page.get_by_role("button", name="词元").click()
    page.get_by_text("Token 3, '词元', layer 0").wait_for()
    page.get_by_text("expert 3: 0.40, expert 4: 0.20").wait_for()
    page.get_by_role("button", name="What").click()
    page.get_by_text("Token 0, 'What', layer 0").wait_for()
    handle = page.get_by_role("slider")
    handle.focus()
    handle.press("ArrowRight")
    page.get_by_text("Token 0, 'What', layer 1").wait_for()
    page.get_by_text("expert 1: 0.40, expert 2: 0.20").wait_for()
    assert page.get_by_role("button", name="What").get_attribute("title") == "experts 1, 2, 3, 4"
    handle.press("ArrowLeft")
    page.get_by_text("Token 0, 'What', layer 0").wait_for()


def test_tokens_are_text(page):
    assert page.get_by_role("button", name="<b>bold</b>").count() == 1
    page.get_by_role("button", name="<img").click()
    page.get_by_text("Token 6, '<img").wait_for()
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_sticks_out(notebook, page, width):
    """At the width of a phone and of a desk: the chart fits its place, with a bar for each expert."""
    notebook.show_only_the_notebook(width)
    output = page.locator(".jp-OutputArea-output").last
    bars = output.locator("[style*=currentColor]")
    assert bars.count() == 60
    place = output.bounding_box()
    last = bars.last.bounding_box()
    assert last["x"] + last["width"] <= place["x"] + place["width"]
    assert last["width"] > 2
    one_digit = output.get_by_text("8", exact=True).bounding_box()
    two_digits = output.get_by_text("56", exact=True).bounding_box()
    assert two_digits["height"] == one_digit["height"]  # numbers are not broken into lines


def test_another_text_and_none(page):
    field = page.get_by_role("textbox", name="Text")
    field.fill("another text")
    field.press("Enter")
    page.get_by_text("Token 0, 'another', layer 0").wait_for()
    field.fill("")
    field.press("Enter")
    page.get_by_text("There is no text: type some words above").wait_for()


def test_embedded_model(notebook, page, screenshot):
    """Last: it puts another explorer into the page."""
    notebook.show_only_the_notebook(760)
    notebook.run_in_cell(1, REAL)
    explorer = page.locator(".english")
    explorer.get_by_role("button", name="mixture").click()
    explorer.get_by_text("mixture', layer 0").wait_for()
    screenshot(explorer, "06_explorer")


def test_in_chinese(notebook, page, screenshot):
    """Also last: on the embedded model of the test before, in the same kernel."""
    notebook.show_only_the_notebook(1200)
    notebook.run_in_cell(1, CHINESE)
    explorer = page.locator(".chinese")
    explorer.get_by_text("第 0 层").wait_for()
    field = page.get_by_role("textbox", name="文本")
    field.fill("混合专家模型有很多专家。")
    field.press("Enter")
    explorer.get_by_text("词元 0：'混").wait_for()
    handle = page.get_by_role("slider")
    handle.focus()
    handle.press("ArrowRight")
    explorer.get_by_text("第 1 层").wait_for()
    explorer.get_by_text("深色条：被选中的专家的权重。").wait_for()
    notebook.show_only_the_notebook(760)
    screenshot(explorer, "06_explorer_zh")
    notebook.show_only_the_notebook(390)
    screenshot(explorer, "06_explorer_zh_narrow")
