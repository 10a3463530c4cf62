"""The command `python -m helpers.inference`."""

import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from inference_samples import PATIENCE

from helpers import CourseError
from helpers.inference import command

# The command, with a model that takes a second for every token from the third on.
SLOW_COMMAND = """
import sys, time
from itertools import count
from transformers import Qwen2MoeForCausalLM

numbers = count()
forward = Qwen2MoeForCausalLM.forward

def slow(model, *arguments, **options):
    if next(numbers) >= 3:
        time.sleep(1)
    result = forward(model, *arguments, **options)
    result.logits[..., model.generation_config.eos_token_id] = float("-inf")  # it never ends by itself
    return result

Qwen2MoeForCausalLM.forward = slow
from helpers.inference.command import main
sys.exit(main())
"""


def start(*arguments: str) -> subprocess.Popen:
    """Python, as a child whose output can be read."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_answer_alone_goes_to_stdout(folder):
    options = ["--model", str(folder), "--system", "Be brief.", "--max-new-tokens", "5"]
    process = start("-m", "helpers.inference", "hello", *options)
    output, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, rest
    assert output.strip()
    lines = rest.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["Model:", "Weights:", "Attention:"]
    assert len(lines) == 4
    # It samples, so it may end its turn before the fifth token, and then it says so.
    assert re.search(r"\b5 new tokens.*: length|\b[1-5] new tokens.*: stop\b", lines[3])
    assert str(folder.parent) not in rest


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "prompt"),
        (["a", "b"], "arguments: b"),
        (["a", "--max-new-tokens", "many"], "invalid int value: 'many'"),
        (["a", "--max-new-tokens", "0"], "at least one"),
        (["a", "--model", "nowhere"], "'nowhere' is no folder and no model"),
        (["a", "--model", "real"], "is not downloaded: run notebook 03"),
        (["a", "--model", "EMBEDDED", "--max-new-tokens", "-1"], "at least one"),
        (["a", "--offload-folder"], "expected one argument"),
        (["a", "--nonsense"], "--nonsense"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_code_1(arguments, reason, folder, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_MODEL", str(folder))
    assert command.main(arguments) == 1
    output, error = capsys.readouterr()
    assert not output
    assert reason in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("system", "takes_one", "expected"),
    [
        (None, True, ["You are a helpful assistant.", "Hello"]),
        ("Be brief.", True, ["Be brief.", "Hello"]),
        ("", True, ["Hello"]),
        (None, False, ["Hello"]),
        ("", False, ["Hello"]),
    ],
)
def test_the_system_message(loaded, monkeypatch, system, takes_one, expected):
    monkeypatch.setattr(command, "takes_system_message", lambda _: takes_one)
    messages = command.make_messages(loaded[1], system, "Hello")
    assert [message["content"] for message in messages] == expected
    roles = ["system", "user"][-len(expected) :]
    assert [message["role"] for message in messages] == roles


def test_a_system_message_that_the_model_does_not_take(loaded, monkeypatch):
    monkeypatch.setattr(command, "takes_system_message", lambda _: False)
    with pytest.raises(CourseError, match="leave out --system"):
        command.make_messages(loaded[1], "Be brief.", "Hello")


def test_a_model_without_chat_template(copy, capsys):
    (copy / "chat_template.jinja").unlink()
    for system in ([], ["--system", "Be brief."]):
        assert command.main(["Hello", "--model", str(copy), *system]) == 1
        assert "has no chat template" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
    ],
)
def test_memory_that_runs_out_is_one_sentence(folder, monkeypatch, capsys, error):
    def runs_out(*arguments, **options):
        raise error

    monkeypatch.setattr(command, "stream_chat", runs_out)
    assert command.main(["Hello", "--model", str(folder)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == command.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("model", "wanted", "expected"),
    [(None, "", "real"), ("embedded", "", "embedded"), (None, "embedded", None), ("x", "embedded", "x")],
)
def test_who_names_a_folder_for_offloading_wants_the_real_model(monkeypatch, model, wanted, expected):
    """It would be of no use to the embedded model, which choose_model takes if the real one does not fit."""
    monkeypatch.setenv("COURSE_MODEL", wanted)
    arguments = ["Hello", "--offload-folder", "offload"]
    if model:
        arguments += ["--model", model]
    assert command.parse(arguments).model == expected


def test_a_bad_argument_is_answered_before_torch_is_imported():
    script = (
        "import sys\n"
        "from helpers.inference.command import main\n"
        "code = main(['a', '--max-new-tokens', 'many'])\n"
        "assert 'torch' not in sys.modules\n"
        "sys.exit(code)\n"
    )
    process = start("-c", script)
    output, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert output == ""
    assert error.count("\n") == 1


def test_ctrl_c_ends_it_without_a_traceback(folder):
    process = start("-c", SLOW_COMMAND, "hello", "--model", str(folder), "--max-new-tokens", "550")
    watchdog = threading.Timer(PATIENCE, process.kill)  # reading from it has no time limit of its own
    watchdog.start()
    assert process.stdout.read(1)
    watchdog.cancel()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in error


def test_a_closed_pipe_is_no_error(folder, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert command.main(["hello", "--model", str(folder), "--max-new-tokens", "300"]) == 0
    assert "Broken pipe" not in capsys.readouterr().err
    assert not [thread for thread in threading.enumerate() if "_generate" in thread.name]
