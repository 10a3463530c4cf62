"""Settings of every test."""

import os
import signal

import pytest

# One thread: sharing out work this small costs more than the work itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
