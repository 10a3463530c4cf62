"""The page of the first real run: its commands exist, and what it says one sees is what they print."""

import ast
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from machines import AUTODL, MACHINES

import helpers.download.command
import helpers.inference.command
import helpers.vram.command
from helpers.download.pipeline import DownloadPlan
from helpers.environment import Holder, holders, show_environment
from helpers.environment.command import choose_model_to_check
from helpers.environment.model_folder import FolderState

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "notebooks/en/first_real_run.md").read_text(encoding="utf-8")
STEPS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
ANY = "…"  # in the page: whatever stands there

# Sizes of the checkpoint's shards, and of tokenizer and configuration, which are 12 MB more.
DOWNLOAD_BYTES = 28_632_144_944 + 12 * 10**6


def blocks(language):
    """The fenced blocks of a language: "bash" what one types, "text" what the course's programs print."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands():
    typed = "".join(blocks("bash"))
    return re.findall(r"^python -m helpers\..+$", typed, flags=re.MULTILINE)


def seen_lines():
    return [line for block in blocks("text") for line in block.splitlines()]


def test_every_step_says_what_one_must_see():
    numbers = [int(step.split(".")[0]) for step in STEPS]
    assert numbers == list(range(1, len(STEPS) + 1))
    for step in STEPS:
        if not step.startswith("11."):  # it is about what goes wrong
            assert "**You must see" in step, step.splitlines()[0]


def test_the_page_asks_for_the_real_model_before_it_downloads():
    typed = commands()
    check = typed.index("python -m helpers.environment --model real")
    assert check < typed.index("python -m helpers.download plan")


def understand(package, arguments):
    """Let the program of a command read its arguments."""
    if package == "environment":
        assert arguments[0] == "--model"
        assert choose_model_to_check(AUTODL, arguments[1]).name == "real"
    elif package == "download":
        helpers.download.command.parse(arguments)
    elif package == "inference":
        helpers.inference.command.parse(arguments)
    else:
        assert package == "vram"
        helpers.vram.command.build_parser().parse_args(arguments)


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_the_commands_are_understood(line):
    words = shlex.split(line)
    assert words[:2] == ["python", "-m"]
    understand(words[2].removeprefix("helpers."), words[3:])


@pytest.fixture
def printed(capsys, monkeypatch):
    """What the check prints on the machines of the page, and some lines of other programs; in one line."""
    without_gpus = MACHINES["no-GPU start on AutoDL, real model"][0]
    with_the_model = replace(AUTODL, download=FolderState("complete"))
    kernel = Holder(4711, "the kernel of 02_vram.ipynb", "17408 MiB", is_kernel=True)
    monkeypatch.setattr(holders, "read_holders", lambda *_: [kernel])
    stream = SimpleNamespace(
        prompt_tokens=20, new_tokens=90, tokens_per_second=9.0, first_token_seconds=1.0, finish_reason="stop"
    )
    for machine in (without_gpus, with_the_model):
        show_environment(machine, "real")
    print(holders.gpu_holders())
    print(DownloadPlan([], DOWNLOAD_BYTES, DOWNLOAD_BYTES, 49 * 10**9, 10))
    print(f"[{helpers.inference.command.figures(stream)}]")
    return " ".join(capsys.readouterr().out.split())


def sentences_of_the_helpers():
    """The texts in the code of commands and loader, as patterns: a field is anything.

    Without those of the environment check, of which `printed` has the real output.
    """
    patterns = []
    folders = [ROOT / "helpers" / name for name in ("download", "inference", "vram")]
    files = [ROOT / "helpers/__init__.py", *(file for folder in folders for file in folder.glob("*.py"))]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                patterns.append("".join(pattern_of(value) for value in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                patterns.append(re.sub(r"\\{.*?\\}", ".*", re.escape(node.value)))
    return [pattern for pattern in patterns if len(pattern.replace(".*", "")) > 12]


def pattern_of(part):
    if isinstance(part, ast.Constant):
        return re.escape(part.value)
    return ".*"


def is_printed(line, printed):
    """Whether a program prints this line of the page."""
    words = " ".join(line.split())
    wanted = ".*?".join(re.escape(piece) for piece in words.split(ANY))
    if re.search(wanted, printed):
        return True
    return any(re.fullmatch(pattern, words) for pattern in sentences_of_the_helpers())


def test_what_one_sees_is_what_the_programs_print(printed):
    assert len(seen_lines()) >= 15
    for line in seen_lines():
        assert is_printed(line, printed), line


@pytest.mark.parametrize(
    "line",
    [
        "This machine can run the real model: 0 fail, 1 warning.",
        "The memory ran out: buy a larger card.",
        "to download 28.64 GB, 30.0 minutes at 10 MB/s",
    ],
)
def test_another_text_is_noticed(line, printed):
    assert not is_printed(line, printed)


def test_the_page_is_linked():
    for path in ("README.md", "notebooks/en/01_environment.ipynb", "notebooks/en/glossary.md"):
        assert "first_real_run.md)" in (ROOT / path).read_text(encoding="utf-8")
