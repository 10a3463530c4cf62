"""Enter in the text area: what it sends, what it leaves to others, and that no text is ever lost."""

import itertools

import pytest
from chat_page import SETUP, ChatPage

BOX = "box = fake_model.make_box()\nbox"
numbers = itertools.count(1)


def open_box(lab, browser, *setup):
    """A page with a box of its own."""
    name = f"enter_{next(numbers)}.ipynb"
    chat = ChatPage(browser, lab.write(name, *setup, SETUP, BOX, "pass"))
    chat.run_all()
    return chat


@pytest.fixture(scope="module")
def opened(lab, browser):
    chat = open_box(lab, browser)
    chat.wait_for_placeholder("press Enter")
    yield chat
    chat.page.close()


@pytest.fixture
def chat(chat):
    """The same page, with the focus in its entry."""
    chat.entry.click()
    return chat


def test_enter_sends(chat):
    for text in ("one", "two", "two"):
        chat.page.keyboard.type(f"echo {text}")
        count = chat.answers()
        chat.page.keyboard.press("Enter")
        chat.wait_for_answers(count + 1)
        chat.wait_for_answer(f"^{text}$")
        chat.until_done()
        assert chat.entry.input_value() == ""
    assert chat.questions() == ["echo one", "echo two", "echo two"]


def test_shift_enter_begins_a_new_line(chat):
    chat.page.keyboard.type("echo one")
    chat.page.keyboard.press("Shift+Enter")
    chat.page.keyboard.type("two")
    assert chat.entry.input_value() == "echo one\ntwo"
    assert chat.answers() == 0
    chat.page.keyboard.press("Enter")
    chat.wait_for_answer("^one\ntwo$")
    chat.until_done()


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_enter_on_nothing_sends_nothing(chat, text):
    chat.entry.fill(text)
    chat.page.keyboard.press("Enter")
    assert chat.ask("echo next") == "next"
    assert chat.questions() == ["echo next"]


def test_enter_belongs_to_the_input_method_while_it_composes(chat):
    """As with Pinyin: letters are composed, Enter or a choice ends that, and only the next Enter sends."""
    chat.page.keyboard.type("echo ")
    keyboard = chat.page.context.new_cdp_session(chat.page)
    for letters in ("n", "ni", "nih", "niha", "nihao"):
        chat.compose(keyboard, letters)
    for key_code in (229, 13):  # what Chromium reports, with and without a real input method
        chat.press_enter_in_input_method(keyboard, key_code)
    assert chat.entry.input_value() == "echo nihao"
    keyboard.send("Input.insertText", {"text": "你好，专家"})
    assert chat.entry.input_value() == "echo 你好，专家"
    assert chat.questions() == [], "nothing was sent while it was being composed"
    chat.page.keyboard.press("Enter")
    chat.wait_for_answer("^你好，专家$")
    chat.until_done()
    assert chat.questions() == ["echo 你好，专家"]


def test_the_key_code_of_an_input_method_is_enough(chat):
    """Safari ends the composition first; only the key code 229 says that Enter was part of it."""
    chat.page.keyboard.type("echo 你好")
    dispatch = """(area, options) => area.dispatchEvent(
        new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true, ...options}))"""
    for options in ({"keyCode": 229}, {"isComposing": True}):
        assert chat.entry.evaluate(dispatch, options), "nobody took the key away from the input method"
    assert chat.entry.input_value() == "echo 你好"
    assert chat.questions() == []
    assert not chat.entry.evaluate(dispatch, {"keyCode": 13}), "a plain Enter is taken"
    chat.wait_for_answer("^你好$")
    chat.until_done()


def test_what_is_typed_on_after_enter_stays(chat):
    """While a cell runs, or the network is slow, the kernel answers late; nobody waits for it."""
    chat.hold_back_messages()
    chat.page.keyboard.type("echo first")
    chat.page.keyboard.press("Enter")
    chat.page.keyboard.type("echo second")
    chat.page.keyboard.press("Enter")  # too early: nothing has answered the first one
    assert chat.entry.input_value() == "echo firstecho second"
    chat.let_messages_go()
    chat.wait_for_answer("^first$")
    chat.until_done()
    chat.wait_for_entry("echo second")
    chat.page.keyboard.press("Enter")
    chat.wait_for_answer("^second$")
    chat.until_done()
    assert chat.questions() == ["echo first", "echo second"]


def test_the_answer_to_enter_does_not_break_off_a_composition(chat):
    keyboard = chat.page.context.new_cdp_session(chat.page)
    chat.hold_back_messages()
    chat.page.keyboard.type("echo first")
    chat.page.keyboard.press("Enter")
    chat.page.keyboard.type("echo ")
    chat.compose(keyboard, "nihao")
    chat.let_messages_go()
    chat.wait_for_answer("^first$")
    chat.until_done()
    chat.compose(keyboard, "nihaoma")
    assert chat.entry.input_value() == "echo firstecho nihaoma", "untouched while it is being composed"
    keyboard.send("Input.insertText", {"text": "你好吗"})
    chat.wait_for_entry("echo 你好吗")
    chat.page.keyboard.press("Enter")
    chat.wait_for_answer("^你好吗$")
    chat.until_done()


def test_text_that_was_edited_meanwhile_stays_as_it_is(chat):
    chat.hold_back_messages()
    chat.page.keyboard.type("echo first")
    chat.page.keyboard.press("Enter")
    chat.page.keyboard.press("Home")
    chat.page.keyboard.type("Now ")
    chat.let_messages_go()
    chat.wait_for_answer("^first$")
    chat.until_done()
    assert chat.entry.input_value() == "Now echo first"


def test_a_refused_text_stays(chat):
    chat.entry.fill("x" * 5000)
    chat.page.keyboard.press("Enter")
    chat.wait_until("document.querySelector('.chat-notice').innerText.includes('shorten it by')")
    chat.until_done()
    assert len(chat.entry.input_value()) == 5000
    chat.page.keyboard.press("End")
    chat.page.keyboard.type("y")
    chat.page.keyboard.press("Enter")  # it works again; the system prompt has 28 characters
    chat.wait_until("document.querySelector('.chat-notice').innerText.includes('5,029')")
    chat.until_done()
    assert chat.entry.input_value() == "x" * 5000 + "y"


def test_enter_while_an_answer_is_written_keeps_the_text(chat):
    chat.page.keyboard.type("forever")
    chat.page.keyboard.press("Enter")
    chat.wait_for_answer("^0 1")
    chat.page.keyboard.type("echo next")
    chat.page.keyboard.press("Enter")
    chat.wait_for_growth()
    assert chat.entry.input_value() == "echo next"
    chat.stop()
    chat.entry.click()
    chat.page.keyboard.press("Enter")
    chat.wait_for_answer("^next$")
    chat.until_done()
    assert chat.questions() == ["forever", "echo next"]


def test_send_after_enter_does_not_send_the_old_text(chat):
    """The kernel's own copy of the text area follows what Enter took away."""
    chat.page.keyboard.type("echo one")
    chat.entry.blur()  # the kernel gets a copy
    chat.entry.click()
    chat.page.keyboard.press("Enter")
    chat.wait_for_answer("^one$")
    chat.until_done()
    chat.wait_for_entry("")
    chat.button("send").click()
    assert chat.ask("echo two") == "two"
    assert chat.questions() == ["echo one", "echo two"]


def test_the_button_sends_what_is_in_the_area_now(chat):
    """A text that the kernel got before, and a click that comes at once after the last key."""
    chat.entry.fill("echo old")
    chat.entry.blur()
    chat.hold_back_messages()
    chat.entry.fill("echo new")
    chat.button("send").click()
    chat.page.keyboard.type("echo later")
    chat.let_messages_go()
    chat.wait_for_answer("^new$")
    chat.until_done()
    chat.wait_for_entry("echo later")
    assert chat.questions() == ["echo new"]


def test_enter_while_a_cell_runs(chat, lab):
    chat.start_cell_that_runs(2, lab.folder, "enter")
    chat.entry.click()
    chat.page.keyboard.type("echo the whole text", delay=5)
    chat.page.keyboard.press("Enter")
    chat.page.keyboard.type("and more", delay=5)
    chat.end_cell_that_runs(lab.folder, "enter")
    chat.wait_for_answer("^the whole text$")
    chat.until_done()
    chat.wait_for_entry("and more")
    assert chat.questions() == ["echo the whole text"]


def test_enter_survives_a_reload(chat):
    chat.ask("echo before")
    chat.save()
    chat.reload()
    chat.entry.click()
    chat.page.keyboard.type("echo after")
    chat.page.keyboard.press("Enter")
    chat.wait_for_answer("^after$")
    chat.until_done()


def test_a_page_that_runs_no_javascript_of_outputs_uses_the_button(lab_without_javascript, browser):
    chat = open_box(lab_without_javascript, browser)
    chat.entry.click()
    chat.page.keyboard.type("echo one")
    chat.page.keyboard.press("Enter")
    chat.page.keyboard.type("two")
    assert chat.entry.input_value() == "echo one\ntwo", "Enter makes a new line"
    assert "click Send" in chat.entry.get_attribute("placeholder")
    assert chat.questions() == []
    chat.button("send").click()
    chat.wait_for_answer("^one\ntwo$")
    chat.until_done()
    chat.wait_for_entry("")
    assert "rror" not in chat.page.locator(".jp-Notebook").inner_text()
    assert chat.ask("echo again") == "again"
    chat.page.close()
