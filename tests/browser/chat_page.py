"""A page of JupyterLab with a prompt box in it, and the hands that use it."""

import time
from pathlib import Path

HERE = Path(__file__).parent
SETUP = f"import sys; sys.path.insert(0, {str(HERE)!r})\nimport fake_model"

PATIENCE = 180_000  # milliseconds; a safety net far from what anything takes, also on a busy machine
POLL = 50  # milliseconds between two looks

ENTRY = ".chat > .widget-textarea textarea"
LAST_ANSWER = "[...document.querySelectorAll('.chat-model')].at(-1)?.innerText"
# A cell that says that it has begun, and runs until it is told to end.
RUNS_UNTIL_TOLD = """
import pathlib, time
pathlib.Path({name!r} + "_has_begun").touch()
for look in range(4000):
    if pathlib.Path({name!r} + "_may_end").exists():
        break
    time.sleep(0.05)
"""

# Everything that the page sends waits, in order, as it does while the kernel is busy or the network is slow.
HOLD_BACK = """() => {
    const send = WebSocket.prototype.send;
    const held = [];
    WebSocket.prototype.send = function (data) { held.push([this, data]); };
    window.letMessagesGo = () => {
        WebSocket.prototype.send = send;
        for (const [socket, data] of held) send.call(socket, data);
    };
}"""

# A tab that is closed is gone, unless there is something to save.
CLOSED_OR_ASKED = "!document.querySelector('.jp-NotebookPanel') || document.querySelector('.jp-Dialog')"

# What JupyterLab shows where it knows no widget of this name.
NO_BOX = "Error displaying widget: model not found"
BOX_OR_NONE = """message => document.querySelector('.chat-user')
    || document.querySelector('.jp-Notebook')?.innerText.includes(message)"""

KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel"


class NotebookPage:
    """A notebook in JupyterLab, and everything that its page asked for."""

    def __init__(self, browser, address):
        self.page = browser.new_page()
        self.requests = []
        self.dialogs = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", self.refuse)
        self.page.set_default_timeout(PATIENCE)
        self.address = address
        self.go()

    def go(self):
        """Load the page anew, with no tab in it but the notebook's."""
        self.page.goto(self.address)
        self.wait_until("window.jupyterapp?.shell.currentWidget?.context?.isReady")

    def refuse(self, dialog):
        if dialog.type == "beforeunload":
            dialog.accept()
        else:
            self.dialogs.append(dialog.message)
            dialog.dismiss()

    def wait_until(self, condition, argument=None):
        """Wait until this JavaScript is true; a function gets `argument`."""
        self.page.wait_for_function(condition, arg=argument, polling=POLL)

    def show_only_the_notebook(self, width, height=900):
        """A window of this width, with no panel of JupyterLab beside the notebook."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate("window.jupyterapp.shell.collapseLeft()")

    def command(self, name, arguments=None):
        """Run a command of JupyterLab and wait for its end, except for those that run cells."""
        self.page.evaluate(
            "([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, arguments or {}]
        )

    def save(self):
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")

    def close_tab(self):
        """Close the tab of the notebook; its kernel goes on. If JupyterLab asks about changes, save them."""
        tab = self.page.locator(".jp-NotebookPanel")
        question = self.page.locator(".jp-Dialog .jp-mod-accept")
        self.command("application:close")
        self.wait_until(CLOSED_OR_ASKED)
        if question.count():
            question.click()
        tab.wait_for(state="detached")

    def run_all(self):
        self.wait_until(f"{KERNEL}?.status === 'idle'")
        self.command("notebook:run-all-cells")

    def run_in_cell(self, number, source):
        """Put `source` into a cell and start it; its end is not waited for."""
        self.page.evaluate(
            """([number, source]) => {
                const cells = window.jupyterapp.shell.currentWidget.content;
                cells.widgets[number].model.sharedModel.setSource(source);
                cells.activeCellIndex = number;
            }""",
            [number, source],
        )
        self.command("notebook:run-cell")

    def start_cell_that_runs(self, number, folder, name):
        """Start a cell that ends at `end_cell_that_runs`, and wait until it has begun."""
        self.run_in_cell(number, RUNS_UNTIL_TOLD.format(name=name))
        for _ in range(4000):
            if (folder / f"{name}_has_begun").exists():
                return
            time.sleep(0.05)
        raise AssertionError("the cell did not begin")

    def end_cell_that_runs(self, folder, name):
        (folder / f"{name}_may_end").touch()

    def hold_back_messages(self):
        self.page.evaluate(HOLD_BACK)

    def let_messages_go(self):
        self.page.evaluate("window.letMessagesGo()")


class ChatPage(NotebookPage):
    """A notebook with a prompt box in it."""

    def run_all(self):
        super().run_all()
        self.page.locator(".chat").wait_for()

    def is_ready(self):
        """Whether a question can be asked: not so where a test has failed during an answer."""
        can_send = self.page.locator(".chat-send:not([disabled])").count() == 1
        is_asked = self.page.locator(".jp-Dialog").count() > 0
        return can_send and not is_asked

    def begin_again(self):
        """A new page with a new box, so that a test that failed does not fail the next ones."""
        self.go()
        self.run_all()
        self.until_done()

    def reload(self):
        self.page.reload()
        self.wait_for_the_old_box()

    def open_tab(self, name):
        """Open a notebook whose tab was closed."""
        self.command("docmanager:open", {"path": name})
        self.wait_for_the_old_box()

    def wait_for_the_old_box(self):
        """Wait for the box of a kernel that went on, with its bubbles, in a page that has just been loaded.

        On a busy machine JupyterLab sometimes looks for the box before the kernel has told it what widgets
        there are, and says so in its place for good. A learner then loads the page once more; so does this.
        """
        for _ in range(5):
            self.wait_until(BOX_OR_NONE, NO_BOX)
            if self.page.locator(".chat-user").count():
                return
            self.page.reload()
        raise AssertionError(f"{NO_BOX}, five times")

    @property
    def entry(self):
        return self.page.locator(ENTRY)

    def button(self, name):
        return self.page.locator(f".chat-{name}")

    def compose(self, session, letters):
        """Let an input method show `letters`; `session` speaks Chromium's own protocol."""
        caret = len(letters)
        arguments = {"text": letters, "selectionStart": caret, "selectionEnd": caret}
        session.send("Input.imeSetComposition", arguments)

    def press_enter_in_input_method(self, session, key_code):
        """The Enter that ends a composition: the input method keeps it, so no character comes of it."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": key_code}
        session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **key})
        session.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})

    def wait_for_entry(self, text):
        """Wait until exactly this is in the text area."""
        self.wait_until(f"text => document.querySelector('{ENTRY}').value === text", text)

    def wait_for_placeholder(self, part):
        self.wait_until(f"part => document.querySelector('{ENTRY}').placeholder.includes(part)", part)

    def send(self, text):
        self.entry.fill(text)
        self.button("send").click()

    def ask(self, text):
        """Send, and wait for the whole answer; returns its text."""
        count = self.answers()
        self.send(text)
        self.wait_for_answers(count + 1)
        self.until_done()
        return self.answer()

    def until_done(self):
        self.page.locator(".chat-send:not([disabled])").wait_for()

    def stop(self):
        self.button("stop").click()
        self.until_done()

    def answers(self):
        return self.page.locator(".chat-model").count()

    def answer(self, number=-1):
        return self.page.locator(".chat-model").nth(number).inner_text()

    def questions(self):
        return self.page.locator(".chat-user").all_inner_texts()

    def notice(self):
        return self.page.locator(".chat-notice").inner_text().strip()

    def clear(self):
        self.button("clear").click()
        self.wait_for_answers(0)

    def wait_for_answers(self, count):
        self.wait_until("n => document.querySelectorAll('.chat-model').length === n", count)

    def wait_for_answer(self, pattern):
        self.wait_until(f"pattern => new RegExp(pattern).test({LAST_ANSWER})", pattern)

    def wait_for_growth(self):
        """Wait until the last answer is longer than it is now."""
        self.wait_until(f"length => {LAST_ANSWER}.length > length", len(self.answer()))
