"""Draw the choices when renting on AutoDL: `python images/draw_autodl_choices.py` writes both languages."""

import tomllib
from functools import cache
from pathlib import Path

from drawing import BLACK, DARK, GREY, LIGHT, SIZE, SMALL, WHITE, WIDTH, Picture, text_width, write

from helpers import GB, GIB
from helpers.download.stored_list import stored_file_list
from helpers.vram import REAL_CONFIG, load_config, meta_model

TAKE, ALSO, LEAVE = "take", "also", "leave"
STYLES = {
    TAKE: {"fill": DARK, "edge": DARK, "color": WHITE},
    ALSO: {"fill": LIGHT, "edge": DARK, "color": BLACK},
    LEAVE: {"fill": WHITE, "edge": GREY, "color": BLACK, "dashed": True},
}
MARKS = {TAKE: "✓ ", ALSO: "", LEAVE: "✗ "}
# Title, reason, and what there is to choose from.
ROWS = {
    "en": [
        (
            "GPU",
            "24 GB a card, and bf16",
            [("RTX 3090", TAKE), ("RTX 4090", ALSO), ("A100 80 GB", ALSO), ("V100 16 GB", LEAVE)],
        ),
        (
            "Number of cards",
            "weights: {weights:.2f} GiB",
            [("1 × 24 GB", LEAVE), ("2 × 24 GB", TAKE), ("1 × 80 GB", ALSO)],
        ),
        (
            "Image",
            "Python {python}",
            [("PyTorch, Python 3.12", TAKE), ("PyTorch 2.1, Python 3.10", LEAVE)],
        ),
        (
            "Where the model goes",
            "it takes {files:.1f} GB",
            [("data disk, 50 GB", TAKE), ("system disk, 30 GB", LEAVE)],
        ),
        (
            "How to start",
            "GPU time is what costs",
            [("no GPU: install, download", TAKE), ("then with GPUs: run", TAKE)],
        ),
    ],
    "zh": [
        (
            "GPU",
            "每张 24 GB，支持 bf16",
            [("RTX 3090", TAKE), ("RTX 4090", ALSO), ("A100 80 GB", ALSO), ("V100 16 GB", LEAVE)],
        ),
        (
            "几张卡",
            "权重：{weights:.2f} GiB",
            [("1 × 24 GB", LEAVE), ("2 × 24 GB", TAKE), ("1 × 80 GB", ALSO)],
        ),
        (
            "镜像",
            "Python {python}",
            [("PyTorch，Python 3.12", TAKE), ("PyTorch 2.1，Python 3.10", LEAVE)],
        ),
        (
            "模型放在哪里",
            "它要占 {files:.1f} GB",
            [("数据盘，50 GB", TAKE), ("系统盘，30 GB", LEAVE)],
        ),
        (
            "怎样开机",
            "贵的是 GPU 时间",
            [("无卡模式：安装、下载", TAKE), ("再带 GPU 开机：运行", TAKE)],
        ),
    ],
}
TITLES = {
    "en": "Five choices when renting on AutoDL: what this course takes, and what works too.",
    "zh": "在 AutoDL 上租用时的五项选择：本课程怎么选，还有什么也可以。",
}
LEGEND = {
    "en": [("this course", TAKE), ("works too", ALSO), ("slow, or not at all", LEAVE)],
    "zh": [("本课程的选择", TAKE), ("也可以", ALSO), ("很慢，或者不行", LEAVE)],
}
ROW = 112  # height
CHIP = 42
BETWEEN = 10  # two chips
EDGE = 6


@cache
def facts() -> dict:
    """Sizes of the real model, and the versions of Python for which the course is made."""
    parameters = meta_model(load_config(REAL_CONFIG)).parameters()
    weights = sum(parameter.nbytes for parameter in parameters)
    files = sum(file.size for file in stored_file_list().files)
    settings = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    first, before = settings["project"]["requires-python"].removeprefix(">=").split(",<3.")
    python = f"{first} – 3.{int(before) - 1}"
    return {"weights": weights / GIB, "files": files / GB, "python": python}


def chips(picture: Picture, y: float, choices: list[tuple[str, str]], size: float) -> None:
    """Choices in a row as wide as the picture; each as wide as its text needs, and a share of the rest."""
    texts = [MARKS[kind] + text for text, kind in choices]
    needed = [text_width(text, size) for text in texts]
    rest = WIDTH - 2 * EDGE - BETWEEN * (len(choices) - 1) - sum(needed)
    x = EDGE
    for text, width, (_text, kind) in zip(texts, needed, choices, strict=True):
        width += rest / len(choices)
        picture.box(x, y, width, CHIP, text, size=size, **STYLES[kind])
        x += width + BETWEEN


def draw(language: str) -> Picture:
    """The picture in one language."""
    rows = ROWS[language]
    known = facts()
    height = ROW * len(rows) + CHIP + 14
    picture = Picture(height, language, TITLES[language])
    for number, (title, reason, choices) in enumerate(rows):
        y = ROW * number + 20
        picture.text(EDGE, y, f"{number + 1}  {title}", size=SIZE + 2, bold=True)
        picture.text(WIDTH - EDGE, y, reason.format(**known), anchor="end", size=SMALL)
        chips(picture, y + 20, choices, SMALL)
    chips(picture, height - CHIP - 4, LEGEND[language], SMALL)
    return picture


if __name__ == "__main__":
    write(__file__, draw)
