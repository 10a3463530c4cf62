"""Settings of every test."""

import os
import shutil
import signal

import pytest

from helpers import EMBEDDED_MODEL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# One thread, also in the processes that a test starts: sharing out work this small costs more than the work
# itself. Read when torch is imported, which is later than this.
os.environ["OMP_NUM_THREADS"] = "1"

# The tests read English sentences, also on a machine that speaks Chinese. A test of the Chinese ones says so.
os.environ["COURSE_LANG"] = "en"

# Tests of Ctrl-C need it to arrive, also where pytest runs in the background and the shell switched it off.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def playwright_driver():
    """Playwright, started once: a process cannot start it a second time while the first one runs."""
    from playwright.sync_api import sync_playwright  # late: it may be missing; a test then skips before this

    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def chromium(request):
    """A headless Chromium for pages that are files; skips the test where it is missing."""
    pytest.importorskip("playwright", reason="Playwright is not installed: pip install playwright")
    if not CHROMIUM:
        pytest.skip("Chromium is not installed")
    playwright = request.getfixturevalue("playwright_driver")  # only now: it may be missing
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def chat_model():
    """The embedded model in fp32, and its tokenizer: rounding is then too small to turn a choice round."""
    from helpers.inference import load  # late: it imports torch, which takes seconds

    model, tokenizer = load(EMBEDDED_MODEL)
    return model.float(), tokenizer


@pytest.fixture
def both(monkeypatch):
    """A function: what a call returns in English and in Chinese."""

    def run(function):
        answers = []
        for language in ("en", "zh"):
            monkeypatch.setenv("COURSE_LANG", language)
            answers.append(function())
        return answers

    return run


@pytest.fixture
def in_both(monkeypatch, capsys):
    """A function that calls another one in English, then in Chinese.

    It returns what was printed, and after it the text that was returned or the words of a refusal.
    """

    def call(function, *arguments, **options) -> list[str]:
        said = []
        for language in ("en", "zh"):
            monkeypatch.setenv("COURSE_LANG", language)
            monkeypatch.setenv("COLUMNS", "100")
            result = None
            try:
                result = function(*arguments, **options)
            except (Exception, SystemExit) as error:
                result = error
            shown = capsys.readouterr()
            text = shown.out + shown.err
            if isinstance(result, str | Exception):
                text += str(result)
            said.append(text)
        return said

    return call
