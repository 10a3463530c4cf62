"""The page of the first real run, in both editions: its commands exist, and one sees what it says."""

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
from helpers import REAL_MODEL_ID
from helpers.download.pipeline import DownloadPlan
from helpers.environment import Holder, holders, show_environment
from helpers.environment.command import choose_model_to_check
from helpers.environment.model_folder import FolderState
from helpers.language import CHINESE, catalogue, language, say

ROOT = Path(__file__).resolve().parents[2]
PAGES = {}
for folder in ("en", "zh"):
    PAGES[folder] = (ROOT / "notebooks" / folder / "first_real_run.md").read_text(encoding="utf-8")
MUST_SEE = {"en": "**You must see", "zh": "**必须看到**"}
#: A sentence must have that many letters to count; Chinese ones are shorter.
SHORTEST = {"en": 12, "zh": 5}
ANY = "…"  # in the page: whatever stands there

# Sizes of the checkpoint's shards, and of tokenizer and configuration, which are 12 MB more.
DOWNLOAD_BYTES = 28_632_144_944 + 12 * 10**6


@pytest.fixture(params=list(PAGES), autouse=True)
def edition(request, monkeypatch):
    """The edition whose page is read; the programs speak its language."""
    monkeypatch.setenv("COURSE_LANG", request.param)
    return request.param


def blocks(page, kind):
    """The fenced blocks of a page: "bash" what one types, "text" what the course's programs print."""
    return re.findall(rf"```{kind}\n(.*?)```", page, flags=re.DOTALL)


def commands(page):
    typed = "".join(blocks(page, "bash"))
    return re.findall(r"^python -m helpers\..+$", typed, flags=re.MULTILINE)


def seen_lines(page):
    return [line for block in blocks(page, "text") for line in block.splitlines()]


def test_every_step_says_what_one_must_see(edition):
    steps = re.split(r"^## ", PAGES[edition], flags=re.MULTILINE)[1:]
    numbers = [int(step.split(".")[0]) for step in steps]
    assert numbers == list(range(1, len(steps) + 1))
    for step in steps:
        if not step.startswith("11."):  # it is about what goes wrong
            assert MUST_SEE[edition] in step, step.splitlines()[0]


def test_the_page_sets_the_language_before_the_first_program_speaks(edition):
    typed = "".join(blocks(PAGES[edition], "bash"))
    setting = f"export COURSE_LANG={edition}"
    assert typed.index(setting) < typed.index("python -m helpers.")


def test_the_page_asks_for_the_real_model_before_it_downloads(edition):
    typed = commands(PAGES[edition])
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


def test_the_commands_are_understood(edition):
    for line in sorted(set(commands(PAGES[edition]))):
        words = shlex.split(line)
        assert words[:2] == ["python", "-m"]
        understand(words[2].removeprefix("helpers."), words[3:])


@pytest.fixture
def printed(capsys, monkeypatch, edition):
    """What the check prints on the machines of the page, and some lines of other programs; in one line."""
    without_gpus = MACHINES["no-GPU start on AutoDL, real model"][0]
    with_the_model = replace(AUTODL, download=FolderState("complete"))
    kernel = Holder(
        4711, say("the kernel of {notebook}", notebook="04_inference.ipynb"), "17408 MiB", is_kernel=True
    )
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
                sentence = node.value
                if language() == CHINESE:
                    sentence = catalogue().get(sentence, sentence)
                patterns.append(re.sub(r"\\{.*?\\}", "(.*)", re.escape(sentence)))
    return [pattern for pattern in patterns if len(pattern.replace("(.*)", "")) > SHORTEST[language()]]


def pattern_of(part):
    if isinstance(part, ast.Constant):
        return re.escape(part.value)
    return "(.*)"


def is_printed(line, printed):
    """Whether a program prints this line of the page."""
    words = " ".join(line.split())
    wanted = ".*?".join(re.escape(piece) for piece in words.split(ANY))
    if re.search(wanted, printed):
        return True
    for pattern in sentences_of_the_helpers():
        match = re.fullmatch(pattern, words) or re.fullmatch(pattern, words.removesuffix(ANY).strip())
        if match and all(is_known(field, printed) for field in match.groups()):
            return True
    return False


def is_known(field, printed):
    """Whether the page may say this in place of a field: "…", or a figure that the programs print."""
    return ANY in field or field in printed or field == REAL_MODEL_ID


def test_what_one_sees_is_what_the_programs_print(printed, edition):
    lines = seen_lines(PAGES[edition])
    assert len(lines) >= 15
    for line in lines:
        assert is_printed(line, printed), line


OTHER_TEXTS = {
    "en": [
        "This machine can run the real model: 0 fail, 1 warning.",
        "The memory ran out: buy a larger card.",
        "to download 28.64 GB, 30.0 minutes at 10 MB/s",
    ],
    "zh": [
        "这台机器可以运行 real 模型：0 项失败，1 项警告。",
        "内存或显存用完了：请买一张更大的卡。",
        "还要下载 28.64 GB，按 10 MB/s 需要 30.0 分钟",
    ],
}


def test_another_text_is_noticed(printed, edition):
    for line in OTHER_TEXTS[edition]:
        assert not is_printed(line, printed), line


def test_the_page_is_linked(edition):
    readme = {"en": "README.md", "zh": "README.zh.md"}[edition]
    folder = f"notebooks/{edition}"
    for path in (readme, f"{folder}/01_environment.ipynb", f"{folder}/glossary.md"):
        assert "first_real_run.md)" in (ROOT / path).read_text(encoding="utf-8")
