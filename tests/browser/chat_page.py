"""A page of JupyterLab with a prompt box in it, and the hands that use it."""

PATIENCE = 180_000  # milliseconds; a safety net far from what anything takes, also on a busy machine
POLL = 50  # milliseconds between two looks

ENTRY = ".chat > .widget-textarea textarea"
LAST_ANSWER = "[...document.querySelectorAll('.chat-model')].at(-1)?.innerText"
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel"


class ChatPage:
    """A page with a box in it, and everything that it asked for."""

    def __init__(self, browser, address):
        self.page = browser.new_page()
        self.requests = []
        self.dialogs = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", self.refuse)
        self.page.set_default_timeout(PATIENCE)
        self.page.goto(address)
        self.wait_until("window.jupyterapp?.shell.currentWidget?.context?.isReady")

    def refuse(self, dialog):
        if dialog.type == "beforeunload":
            dialog.accept()
        else:
            self.dialogs.append(dialog.message)
            dialog.dismiss()

    # JupyterLab

    def wait_until(self, condition, argument=None):
        """Wait until this JavaScript is true; a function gets `argument`."""
        self.page.wait_for_function(condition, arg=argument, polling=POLL)

    def command(self, name, arguments=None):
        """Run a command of JupyterLab and wait for its end, except for those that run cells."""
        self.page.evaluate(
            "([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, arguments or {}]
        )

    def save(self):
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")

    def run_all(self):
        self.wait_until(f"{KERNEL}?.status === 'idle'")
        self.command("notebook:run-all-cells")
        self.page.locator(".chat").wait_for()

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

    # The box

    @property
    def entry(self):
        return self.page.locator(ENTRY)

    def button(self, name):
        return self.page.locator(f".chat-{name}")

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
