"""How pytest runs the notebooks: nbval executes every cell and compares its output with the stored one."""

import os
import queue
import tempfile

import nbval.plugin
from nbval.kernel import RunningKernel

# A learner without a GPU and without a download. One thread: sharing out small work costs more than the work;
# tests/maintenance/sweep.py asks for two as well.
THREADS = os.environ.get("COURSE_TEST_THREADS", "1")
LEARNER = {"COURSE_MODEL": "", "COURSE_LANG": "", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": THREADS}


class WatchedKernel(RunningKernel):
    """A learner's kernel that is reported as dead at once. nbval alone waits for the whole timeout."""

    def __init__(self, *args, **kwargs):
        self.cache = tempfile.TemporaryDirectory(prefix="course-cache-")
        os.environ |= {**LEARNER, "COURSE_CACHE": self.cache.name}
        super().__init__(*args, **kwargs)

    def stop(self):
        super().stop()
        self.cache.cleanup()

    def await_reply(self, msg_id, timeout=None):
        seconds_left = timeout
        while True:
            try:
                return super().await_reply(msg_id, timeout=1)
            except queue.Empty:
                if not self.is_alive():
                    raise RuntimeError("the kernel died while it ran this cell") from None
                if seconds_left is not None:
                    seconds_left -= 1
                    if seconds_left <= 0:
                        raise


nbval.plugin.RunningKernel = WatchedKernel
