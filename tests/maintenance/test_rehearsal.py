"""The rehearsal itself, on a checkpoint of a few megabytes: every step, as a learner types it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "rehearse_full_size.py"
PATIENCE = 900  # seconds; a net, it takes about half a minute


def test_every_step_of_the_rehearsal_on_a_small_checkpoint(tmp_path):
    command = [sys.executable, str(SCRIPT), "--small", "--folder", str(tmp_path)]
    result = subprocess.run(command, cwd=SCRIPT.parents[2], capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout
    for words in (
        "28,631,568,384 bytes of weights",
        "refused: ",
        "killed: ",
        "resumed: 0 bytes came twice",
        "has another sha256",
        "choose_model: Model: ",
        "The rehearsal is complete.",
    ):
        assert words in lines, lines
    assert not list(tmp_path.iterdir())  # nothing is left behind
