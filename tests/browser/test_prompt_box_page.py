"""The prompt box in a real JupyterLab page: typed at, clicked at, reloaded, and attacked."""

import re

import hostile_texts
import nbformat
import pytest
from chat_page import SETUP, ChatPage

from helpers.prompt_box import NOTE

# Each would set window.hacked, open a dialog, or ask the network for something named "probe".
HOSTILE = hostile_texts.texts(code="window.hacked=1;alert(1)", request="probe")

# What an attack takes at most: the browser asks for a picture, gets none, and runs the code for that case.
FAILING_PICTURE = """() => new Promise(done => {
    const picture = new Image();
    picture.onerror = done;
    picture.src = 'no-such-picture';
})"""


@pytest.fixture(scope="module")
def opened(lab, browser):
    """One page with a box, for the tests that leave it usable."""
    address = lab.write("chat.ipynb", SETUP, "box = fake_model.make_box()\nbox", "pass")
    chat = ChatPage(browser, address)
    chat.run_all()
    yield chat
    chat.page.close()


def test_the_box_is_labelled_for_screen_readers(chat):
    chat.page.locator(".chat[lang=en]").wait_for()
    chat.page.get_by_role("group", name="Chat with the model").wait_for()
    chat.page.get_by_role("textbox", name="Your message").wait_for()
    chat.page.locator(".chat-notice[role=status]").wait_for(state="attached")
    assert chat.page.locator(".chat [role=slider]").evaluate_all("all => all.map(e => e.ariaLabel)") == [
        "New tokens",
        "Temperature",
        "Top-p",
    ]
    chat.ask("echo 你好，专家")
    assert chat.page.locator(".chat-model [lang=zh-CN]").inner_text() == "你好，专家"


def test_answer_streams_and_stops(chat):
    chat.send("forever")
    chat.wait_for_answer("^0 1 2")
    early = chat.answer()
    chat.wait_for_growth()
    assert chat.answer().startswith(early.strip()), "it grows while it is being written"
    chat.stop()
    assert chat.notice() == "Stopped."
    stopped = chat.answer()
    assert chat.ask("echo next") == "next"
    assert chat.answer(0) == stopped


def test_regenerate_and_clear(chat):
    assert chat.ask("echo one") == "one"
    assert chat.ask("echo two") == "two"
    chat.button("regenerate").click()
    chat.until_done()
    chat.wait_for_answer("^two$")
    assert chat.answers() == 2
    chat.clear()
    assert chat.questions() == []
    assert chat.ask("echo three") == "three"


def test_the_end_of_a_long_answer_is_in_view(chat):
    chat.ask("slow 1")
    chat.ask("echo " + "many lines\n" * 60)
    log = chat.page.locator(".chat-log").bounding_box()
    last = chat.page.locator(".chat-model").last.bounding_box()
    end_of_log = log["y"] + log["height"]
    end_of_answer = last["y"] + last["height"]
    assert abs(end_of_log - end_of_answer) < 20


def test_double_click_sends_once(chat):
    chat.entry.fill("slow 10")
    chat.button("send").dblclick()
    chat.wait_for_answer("9")
    chat.until_done()
    chat.ask("echo next")  # a second answer to the first click would have come before this one
    assert chat.questions() == ["slow 10", "echo next"]


def test_keyboard_only(chat):
    chat.entry.click()
    for text in ("by keyboard", "and again"):  # after an answer the focus is back in the text area
        chat.page.keyboard.type(f"echo {text}")
        chat.page.keyboard.press("Tab")
        chat.page.keyboard.press("Space")
        chat.wait_for_answer(f"^{text}$")
        chat.until_done()
        chat.page.locator(".chat textarea:focus").wait_for()


def test_chinese_through_an_input_method(chat):
    chat.entry.click()
    chat.page.keyboard.type("echo ")
    keyboard = chat.page.context.new_cdp_session(chat.page)
    for letters in ("n", "ni", "nih", "nihao"):
        chat.compose(keyboard, letters)
    keyboard.send("Input.insertText", {"text": "你好，专家"})
    assert chat.answers() == 0, "nothing is sent while it is being composed"
    chat.button("send").click()
    chat.wait_for_answer("^你好，专家$")
    assert chat.questions() == ["echo 你好，专家"]


def test_out_of_memory_is_one_sentence_and_not_the_end(chat):
    chat.ask("fail")
    assert chat.notice().startswith("The memory ran out: press Clear")
    assert chat.ask("echo fine") == "fine"


def test_too_long_a_message_is_refused(chat):
    chat.send("x" * 100_000)
    chat.wait_until("document.querySelector('.chat-notice').innerText.includes('100,0')")
    assert "shorten it by" in chat.notice()
    assert len(chat.entry.input_value()) == 100_000


def test_works_while_a_cell_runs(chat, lab):
    """Whether the click has to wait for the cell depends on the kernel; nothing may be lost or sent twice."""
    chat.start_cell_that_runs(2, lab.folder, "click")
    chat.entry.click()
    chat.page.keyboard.type("echo the whole text", delay=5)
    chat.button("send").click()
    chat.end_cell_that_runs(lab.folder, "click")
    chat.wait_for_answer("^the whole text$")
    chat.until_done()
    assert chat.questions() == ["echo the whole text"]


def test_hostile_texts_do_nothing(chat, lab):
    for text in HOSTILE:
        chat.ask(f"echo {text}")
        if "`" not in text and "**" not in text:
            shown = re.sub(r"\s+", " ", chat.answer())
            typed = re.sub(r"\s+", " ", text.replace("\0", ""))  # no browser shows this character
            assert shown == typed
    forbidden = "a, img, script, iframe, svg, style, form, input, math, video, audio, object, embed, link"
    assert chat.page.locator(f".chat-log :is({forbidden})").count() == 0
    chat.page.mouse.move(300, 300)
    chat.page.evaluate(FAILING_PICTURE)
    assert chat.dialogs == []
    assert chat.page.evaluate("window.hacked") is None
    assert [url for url in chat.requests if "probe" in url] == []
    assert [url for url in chat.requests if not url.startswith((lab.url, "data:", "blob:"))] == []


def test_narrow_window_and_long_lines(chat, screenshot):
    chat.page.set_viewport_size({"width": 420, "height": 800})
    chat.command("application:toggle-left-area")
    chat.ask("echo " + "unbroken" * 60 + "\n```python\n" + "x = 1  # " + "long line " * 30 + "\n```\nend")
    box = chat.page.locator(".chat").bounding_box()
    for part in chat.page.locator(".chat-model, .chat-user, .chat button, .chat > .widget-textarea").all():
        inner = part.bounding_box()
        assert part.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), "its text stays inside"
        assert inner["x"] >= box["x"] - 1
        assert inner["x"] + inner["width"] <= box["x"] + box["width"] + 1
    screenshot(chat.page.locator(".chat"), "05_prompt_box_narrow")
    chat.command("application:toggle-left-area")
    chat.page.set_viewport_size({"width": 1000, "height": 900})


def test_box_and_stream_survive_a_reload(chat):
    chat.ask("echo before")
    chat.save()
    chat.send("forever")
    chat.wait_for_answer("^0 1")
    chat.reload()
    assert chat.answer(0) == "before"
    chat.wait_for_growth()
    chat.stop()
    assert chat.ask("echo after") == "after"


def test_box_and_stream_survive_a_closed_tab(chat):
    chat.send("forever")
    chat.wait_for_answer("^0 1")
    chat.close_tab()
    chat.open_tab("chat.ipynb")
    chat.wait_for_growth()
    chat.stop()
    assert chat.ask("echo back") == "back"


def test_running_the_cell_again_stops_the_first_box(chat):
    chat.send("forever")
    chat.wait_for_answer("^0 1")
    chat.command("notebook:run-all-cells")
    chat.wait_for_answers(0)
    chat.until_done()
    assert chat.ask("echo new") == "new"


def test_stored_notebook_without_a_kernel_shows_the_note(lab, browser):
    cell = nbformat.v4.new_code_cell("box", execution_count=1)
    # As tests/maintenance/store_outputs.py leaves it.
    bundle = {"text/plain": NOTE, "text/html": f"<em>{NOTE}</em>"}
    cell.outputs = [nbformat.v4.new_output("execute_result", bundle, execution_count=1)]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), lab.folder / "stored.ipynb")
    chat = ChatPage(browser, lab.address("stored.ipynb"))
    chat.page.locator(".jp-OutputArea-output", has_text=NOTE).wait_for()
    chat.page.close()


REAL = """
from helpers import choose_model, inference
from helpers.prompt_box import PromptBox, answer, conversation
box.close()
answer.stream_chat = inference.stream_chat  # in place of the stand-in
conversation.encode_chat = inference.encode_chat
box = PromptBox(*inference.load(choose_model()))
box.temperature.value = 0
box.view.root.add_class("real")
box
"""


def test_embedded_model_chats(chat, screenshot):
    """Last: it puts a box with the real code and the embedded model into the page."""
    chat.run_in_cell(1, REAL)
    chat.page.locator(".chat.real").wait_for()
    questions = ["What is a GPU?", "什么是大语言模型？", "Write a Python function that adds two numbers."]
    for question in questions:
        assert len(chat.ask(question)) > 1
    status = chat.page.locator(".chat-status").inner_text()
    assert re.search(r"\d+ tokens in · \d+ out · context \d+ of", status)
    assert chat.questions() == questions
    screenshot(chat.page.locator(".chat"), "05_prompt_box")
    chat.command("apputils:change-theme", {"theme": "JupyterLab Dark"})
    chat.wait_until("document.body.dataset.jpThemeLight === 'false'")
    chat.page.locator(".chat").get_by_text("Settings").click()
    chat.page.locator(".chat").get_by_text("Temperature").wait_for()
    screenshot(chat.page.locator(".chat"), "05_prompt_box_dark")


CHINESE = """
import os
os.environ["COURSE_LANG"] = "zh"
box = PromptBox(box.model, box.tokenizer)
box.temperature.value = 0
box.view.root.add_class("chinese")
box
"""


def test_a_chinese_box(chat, screenshot):
    """Also last: on the embedded model of the test before, in the same kernel."""
    chat.command("apputils:change-theme", {"theme": "JupyterLab Light"})
    chat.run_in_cell(1, CHINESE)
    box = chat.page.locator(".chat.chinese")
    box.and_(chat.page.locator("[lang=zh-CN]")).wait_for()
    chat.wait_for_placeholder("按 Enter 键发送")
    chat.page.get_by_role("group", name="与模型对话").wait_for()
    box.get_by_role("textbox", name="你的消息").click()
    keyboard = chat.page.context.new_cdp_session(chat.page)
    for letters in ("s", "sh", "shenme"):
        chat.compose(keyboard, letters)
    keyboard.send("Input.insertText", {"text": "什么是大语言模型？"})
    assert chat.answers() == 0, "nothing is sent while it is being composed"
    box.get_by_role("button", name="发送").click()
    chat.wait_for_answers(1)
    chat.until_done()
    assert chat.questions() == ["什么是大语言模型？"]
    assert re.match(r"输入 \d+ 个词元 · 输出 \d+ 个 · 上下文已用", box.locator(".chat-status").inner_text())
    chat.ask("What is a GPU?")
    languages = box.locator(".chat-user, .chat-model").evaluate_all(
        "bubbles => bubbles.map(e => (e.querySelector('[lang]') ?? e.closest('[lang]')).lang)"
    )
    assert languages == ["zh-CN", "zh-CN", "en", "en"]
    chat.show_only_the_notebook(660)
    screenshot(box, "05_prompt_box_zh")
    box.get_by_text("设置").click()
    box.get_by_role("slider", name="温度").wait_for()
    chat.show_only_the_notebook(390, height=1100)
    for slider in box.locator("[role=slider]").all():
        track = slider.locator("xpath=../../..").bounding_box()
        assert track["width"] > 100, "there is room to move it"
    screenshot(box, "05_prompt_box_zh_narrow")


STRIP = """
import os
os.environ["COURSE_LANG"] = {language!r}
box = PromptBox(box.model, box.tokenizer, show_routing=True)
box.temperature.value = 0
box.view.root.add_class("strip-{language}")
box
"""


@pytest.mark.parametrize(
    "language, question, line, name",
    [
        ("en", "What is an expert?", "First expert of each token", "05_routing_strip"),
        ("zh", "什么是专家？", "首选专家", "05_routing_strip_zh"),
    ],
)
def test_a_strip_under_an_answer(chat, screenshot, language, question, line, name):
    """Also last, in the same kernel: the tokens of an answer in the colours of their experts."""
    chat.show_only_the_notebook(660)
    chat.run_in_cell(1, STRIP.format(language=language))
    box = chat.page.locator(f".chat.strip-{language}")
    box.wait_for()
    chat.ask(question)
    box.get_by_text(line).wait_for()
    screenshot(box, name)
