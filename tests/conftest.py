"""Settings of every test: one thread, because sharing out work this small costs more than the work itself."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
