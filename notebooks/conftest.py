"""How pytest runs the notebooks: nbval executes every cell and compares its output with the stored one."""

import os
import queue
import tempfile

import nbval.plugin
from nbval.kernel import RunningKernel

# Every kernel starts like that of a learner without a GPU and without a download: it gets the embedded model.
os.environ.pop("COURSE_MODEL", None)
os.environ["COURSE_CACHE"] = tempfile.mkdtemp(prefix="course-cache-")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the stored outputs are those of a CPU
os.environ["OMP_NUM_THREADS"] = "1"  # sharing out work this small costs more than the work itself


class WatchedKernel(RunningKernel):
    """A kernel that is reported as dead when it is dead. nbval alone waits for the whole cell timeout."""

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
