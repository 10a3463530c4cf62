"""One piece of work at a time, in a thread, so that the kernel is free for the next click."""

import threading
from collections.abc import Callable


class Worker:
    """Runs one piece of work at a time in a thread of its own. Stop is a flag that the work has to read."""

    def __init__(self):
        #: Set when somebody asks the work to stop.
        self.stop = threading.Event()
        self._busy = threading.Lock()  # held while work is being done
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether work is being done."""
        return self._busy.locked()

    def start(self, work: Callable[[], None], before: Callable[[], None]) -> bool:
        """Call `before()`, then let a thread call `work()`, and return at once.

        False, and neither is called, while other work is being done: a double click calls twice.
        """
        if not self._busy.acquire(blocking=False):
            return False
        self.stop.clear()
        before()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        return True

    def _run(self, work: Callable[[], None]) -> None:
        """The thread."""
        try:
            work()
        finally:
            self._busy.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the work; False if it goes on after `timeout` seconds.

        Interrupting the kernel does not reach a thread, but it reaches who waits here: that stops the work.
        """
        try:
            if self._thread:
                self._thread.join(timeout)
        except KeyboardInterrupt:
            self.stop.set()
            raise
        return not self.busy
