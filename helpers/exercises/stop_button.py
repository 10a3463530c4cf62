"""A stage on which a Stop button is tried: pieces of text that come when the check wants them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ipywidgets as widgets

from helpers.exercises.verdict import WrongAnswerError
from helpers.language import say

PATIENCE = 10  # seconds; only an answer that is wrong is waited for so long
LOOKS = 500  # how often somebody looks within this time
COUNT = 40  # pieces of text


class Pieces:
    """An iterator of texts, as `stream_chat` gives them. Each comes only when the check allows it."""

    def __init__(self):
        #: All texts.
        self.texts = [f"{number} " for number in range(COUNT)]
        #: The thread that asked for a piece; None before that.
        self.reader: int | None = None
        #: Set when somebody asks for the first piece.
        self.asked = threading.Event()
        #: How often somebody asked for a piece.
        self.requests = 0
        self._allowed = threading.Semaphore(0)
        self._given = 0

    def allow(self, count: int) -> None:
        """Let the next `count` pieces go."""
        self._allowed.release(count)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.reader = threading.get_ident()
        self.requests += 1
        self.asked.set()
        self._allowed.acquire(timeout=4 * PATIENCE)  # ends also if the check has gone
        if self._given == len(self.texts):
            raise StopIteration
        self._given += 1
        return self.texts[self._given - 1]


class WatchedButton(widgets.Button):
    """A button that knows what its clicks call, so that an error in there is not lost."""

    def __init__(self):
        super().__init__(description="Stop")
        self.callbacks: list[Callable] = []

    def on_click(self, callback: Callable, remove: bool = False) -> None:
        """As of every button."""
        super().on_click(callback, remove=remove)
        if remove:
            self.callbacks.remove(callback)
        else:
            self.callbacks.append(callback)

    def press(self) -> None:
        """Call what a click calls; WrongAnswerError for an error in there, and if there is nothing."""
        if not self.callbacks:
            raise WrongAnswerError(
                say("a click on Stop calls nothing: give the button a function with on_click.")
            )
        for callback in list(self.callbacks):
            try:
                callback(self)
            except Exception as error:
                raise WrongAnswerError(
                    say(
                        "a click on Stop ended with {kind}: {error}. A button hands itself over as the only "
                        "argument.",
                        kind=type(error).__name__,
                        error=error,
                    )
                ) from None


@contextmanager
def recorded_thread_errors() -> Iterator[list[BaseException]]:
    """Within, errors of threads are collected, not printed."""
    errors: list[BaseException] = []
    before = threading.excepthook
    threading.excepthook = lambda args: errors.append(args.exc_value)
    try:
        yield errors
    finally:
        threading.excepthook = before


def read_text(text: str, pieces: list[str]) -> None:
    """Whether `text`, which was shown after these pieces, is all of them."""
    wanted = "".join(pieces)
    if text == wanted:
        return
    if text == pieces[-1]:
        raise WrongAnswerError(say("each piece replaces the one before it. Show the whole text so far."))
    raise WrongAnswerError(
        say(
            "after {count} pieces {text!r} is shown, not {wanted!r}.",
            count=len(pieces),
            text=text,
            wanted=wanted,
        )
    )


def refuse_errors(errors: list[BaseException]) -> None:
    """Nobody would see the error of a thread in a notebook."""
    if errors:
        error = errors[-1]
        raise WrongAnswerError(
            say("your thread ended with {kind}: {error}.", kind=type(error).__name__, error=error)
        )


class Trial:
    """One answer that `start(pieces, show, stop_button)` shows."""

    def __init__(self, start: Callable, stop_button, errors: list[BaseException]):
        #: What `start` shows, in order.
        self.shown: list[str] = []
        self.pieces = Pieces()
        self._start = start
        self._stop_button = stop_button
        self._errors = errors  # of all threads
        self._was_shown = threading.Semaphore(0)
        self._result = None
        self._own_error: Exception | None = None

    def _show(self, text: str) -> None:
        self.shown.append(text)
        self._was_shown.release()

    def _call(self) -> None:
        """The thread in the place of the notebook's: whoever blocks it, blocks the page."""
        try:
            self._result = self._start(self.pieces, self._show, self._stop_button)
        except Exception as error:
            self._own_error = error

    def begin(self) -> None:
        """Call `start`, and see that it returns a thread before the first piece is there."""
        caller = threading.Thread(target=self._call, daemon=True)
        caller.start()
        for _ in range(LOOKS):
            if not caller.is_alive() or self.pieces.asked.wait(PATIENCE / LOOKS):
                break
        if self.pieces.reader == caller.ident:
            self._give_up(
                caller,
                say(
                    "`start` reads the pieces itself, so a click on Stop waits until it is over. Who else "
                    "can read them?"
                ),
            )
        caller.join(PATIENCE)
        if caller.is_alive():
            self._give_up(
                caller,
                say(
                    "`start` waits for its thread, so a click on Stop waits as well. A callback returns at "
                    "once."
                ),
            )
        if self._own_error:
            raise self._own_error
        if not isinstance(self._result, threading.Thread):
            self.pieces.allow(COUNT + 1)
            kind = type(self._result).__name__
            raise WrongAnswerError(
                say("`start` is to return the thread that it has started, not {kind}.", kind=kind)
            )
        if self._result.ident is None:
            raise WrongAnswerError(say("the thread was made and not started."))

    def _give_up(self, caller: threading.Thread, reason: str) -> None:
        self.pieces.allow(COUNT + 1)
        caller.join(PATIENCE)
        raise WrongAnswerError(reason)

    def wait_for_shown(self, count: int) -> None:
        """Let `count` pieces go, and wait until each was shown with those before it."""
        self.pieces.allow(count)
        for number in range(1, count + 1):
            try:
                self._wait_for(number)
                read_text(self.shown[number - 1], self.pieces.texts[:number])
            except WrongAnswerError:
                self.pieces.allow(COUNT + 1)  # so that the thread ends
                raise

    def _wait_for(self, number: int) -> None:
        """Wait until `number` texts were shown; WrongAnswerError when nobody will show them."""
        for _ in range(LOOKS):
            if self._was_shown.acquire(timeout=PATIENCE / LOOKS):
                return
            self._refuse_silence(number)
        raise WrongAnswerError(say("a piece has come and is not shown."))

    def _refuse_silence(self, number: int) -> None:
        """Is there still somebody who could show text `number`?"""
        has_ended = not self._result.is_alive()  # before the look at what it has shown
        was_passed = self.pieces.requests > number
        refuse_errors(self._errors)
        if len(self.shown) >= number:
            return
        if was_passed:
            raise WrongAnswerError(say("a piece has come and is not shown: call `show` inside the loop."))
        if has_ended:
            raise WrongAnswerError(
                say("your thread ends before it has shown a piece, and nobody has pressed Stop.")
            )

    def press_stop(self) -> None:
        """What a click on Stop does."""
        try:
            self._stop_button.press()
        except WrongAnswerError:
            self.pieces.allow(COUNT + 1)
            raise

    def let_all_go(self) -> None:
        """Let all pieces go, and wait for the end of the thread."""
        self.pieces.allow(COUNT + 1)
        self._result.join(PATIENCE)
        if self._result.is_alive():
            raise WrongAnswerError(say("your thread does not end, though no more pieces come."))
        refuse_errors(self._errors)
