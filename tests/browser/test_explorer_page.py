"""The routing explorer in a real JupyterLab page: a token is clicked, a layer picked, a text typed."""

from pathlib import Path

import pytest
from chat_page import KERNEL, POLL

HERE = Path(__file__).parent
SETUP = f"import sys; sys.path.insert(0, {str(HERE)!r})\nimport fake_routing"
TEXT = "What is a 词元 ? <b>bold</b> <img/src=x/onerror=window.hacked=1>"
WAIT = 240_000  # milliseconds; a safety net


@pytest.fixture(scope="module")
def page(lab, browser):
    page = browser.new_page()
    page.set_default_timeout(WAIT)
    page.goto(lab.write("explorer.ipynb", SETUP, f"fake_routing.make_explorer({TEXT!r})"))
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.context?.isReady", polling=POLL)
    page.wait_for_function(f"{KERNEL}?.status === 'idle'", polling=POLL)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    page.get_by_text("Token 0, 'What', layer 0").wait_for()
    yield page
    page.close()


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
def test_nothing_sticks_out(page, width):
    """At the width of a phone and of a desk: the chart fits its place, with a bar for each expert."""
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("window.jupyterapp.shell.collapseLeft()")
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
