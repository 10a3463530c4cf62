"""Draw the memory of the first of two cards while the real model loads, reads a prompt and answers.

`python images/draw_memory_over_time.py` writes memory_over_time*.svg. Every point is one of the timeline of
notebook 02; the picture has no seconds.
"""

from dataclasses import dataclass
from functools import cache
from itertools import groupby

from drawing import BLACK, DARK, GREY, LIGHT, MIDDLE, SMALL, Picture, Point, write
from real_model import CARDS, NEW, PROMPT

from helpers import GIB
from helpers.vram import REAL_CONFIG, forecast, load_config, memory_over_time
from helpers.vram.timeline import DECODE_STEPS

WORDS = {
    "en": {
        "title": "Memory of the first of two cards: loading, prefill and decode of Qwen1.5-MoE-A2.7B-Chat.",
        "above": "GPU 0: GiB in use",
        "loading": "loading",
        "prefill": "prefill",
        "decode": "decode",
        "under loading": "one step a layer",
        "under prefill": "{prompt:,} tokens at once",
        "under decode": "one token a step,\n{shown} of {steps} shown",
        "card": "card: {size:.0f} GiB",
        "weights": "weights: {size:.1f} GiB",
        "zoom": "What the\nrequest adds,\nmagnified",
        "teeth": "{layers} layers,\n{layers} teeth",
        "cache": "KV cache,\n{size:.1f} GiB at the end",
    },
    "zh": {
        "title": "两张卡中第一张的显存：Qwen1.5-MoE-A2.7B-Chat 的加载、预填充与解码。",
        "above": "GPU 0：已用显存（GiB）",
        "loading": "加载",
        "prefill": "预填充",
        "decode": "解码",
        "under loading": "每层一级台阶",
        "under prefill": "一次读完 {prompt:,} 个词元",
        "under decode": "每步一个词元，\n{steps} 步中画出 {shown} 步",
        "card": "卡：{size:.0f} GiB",
        "weights": "权重：{size:.1f} GiB",
        "zoom": "请求增加的\n部分，放大",
        "teeth": "{layers} 层，\n{layers} 个齿",
        "cache": "KV 缓存，\n最后 {size:.1f} GiB",
    },
}
LEFT = 46
PHASE_WIDTH = 196


@dataclass(frozen=True)
class Panel:
    """A part of the picture with a scale of its own: `top` GiB at the height `upper`, 0 at `lower`."""

    upper: float
    lower: float
    top: float

    def y(self, gib: float) -> float:
        """The height of an amount of memory."""
        return self.lower - (self.lower - self.upper) * gib / self.top


ALL = Panel(upper=76, lower=376, top=25)
REQUEST = Panel(upper=456, lower=656, top=1.6)


def outline(history: list[int], start: float, panel: Panel, above: int = 0) -> list[Point]:
    """The upper edge of a phase, from `start` on; `history` and `above` in bytes.

    Of the changes that fall into one pixel, the lowest and the highest are drawn.
    """
    width = PHASE_WIDTH / len(history)
    columns = {}  # pixel -> heights
    for step, live in enumerate(history):
        columns.setdefault(int(step * width), []).append(panel.y((live - above) / GIB))
    points = []
    for pixel, heights in columns.items():
        x = start + pixel
        from_first_to_last = (heights[0], min(heights), max(heights), heights[-1])
        points += [(x, height) for height, _again in groupby(from_first_to_last)]
    return [*points, (start + PHASE_WIDTH, points[-1][1])]


def fill(picture: Picture, points: list[Point], floor: float, color: str, edge: str) -> None:
    """The area between an upper edge and the level `floor`."""
    picture.area([(points[0][0], floor), *points, (points[-1][0], floor)], color, edge)


def draw_axis(picture: Picture, panel: Panel, ticks: tuple[float, ...], first_phase: int = 0) -> None:
    """Level lines with their GiB, from the left of a phase on, and an upright one between the phases."""
    left = LEFT + first_phase * PHASE_WIDTH
    right = LEFT + 3 * PHASE_WIDTH
    for tick in ticks:
        picture.text(left - 8, panel.y(tick), f"{tick:g}", anchor="end", size=SMALL)
        picture.line((left - 4, panel.y(tick)), (left, panel.y(tick)), color=BLACK, width=1)
    for phase in range(first_phase, 3):
        x = LEFT + phase * PHASE_WIDTH
        picture.line((x, panel.upper), (x, panel.lower), color=GREY, width=1)
    picture.line((left, panel.lower), (right, panel.lower), color=BLACK, width=1.5)


def draw_all(picture: Picture, words: dict, over_time: dict, card: int) -> None:
    """The upper half: weights, what the request adds, and the size of the card."""
    weights = over_time["loading"][-1] / GIB
    level = ALL.y(weights)
    picture.bar(LEFT + PHASE_WIDTH, level, 2 * PHASE_WIDTH, ALL.lower - level, LIGHT, edge=LIGHT)
    for number, (phase, history) in enumerate(over_time.items()):
        points = outline(history, LEFT + number * PHASE_WIDTH, ALL)
        if phase == "loading":
            fill(picture, points, ALL.lower, LIGHT, edge=DARK)
        else:
            fill(picture, points, level, MIDDLE, edge=MIDDLE)
    draw_axis(picture, ALL, (0, 5, 10, 15, 20))
    right = LEFT + 3 * PHASE_WIDTH
    height = ALL.y(card / GIB)
    picture.line((LEFT, height), (right, height), color=BLACK, width=2, dashed=True)
    said = words["card"].format(size=card / GIB)
    picture.text(right - 4, height + 18, said, anchor="end", size=SMALL)
    middle = LEFT + 1.5 * PHASE_WIDTH
    picture.text(middle, ALL.y(6), words["weights"].format(size=weights), anchor="middle", color=DARK)


def draw_phases(picture: Picture, words: dict) -> None:
    """The names of the phases, above, and what happens in each, below."""
    figures = {"prompt": PROMPT, "steps": NEW - 1, "shown": DECODE_STEPS}
    for number, phase in enumerate(("loading", "prefill", "decode")):
        middle = LEFT + (number + 0.5) * PHASE_WIDTH
        picture.text(middle, 50, words[phase], anchor="middle", bold=True)
        said = words[f"under {phase}"].format(**figures)
        lines = said.count("\n") + 1
        picture.text(middle, ALL.lower + 11 + 9 * lines, said, anchor="middle", size=15)


def draw_request(picture: Picture, words: dict, over_time: dict, layers: int, cache: int) -> None:
    """The lower half: only what the request adds, on a scale of its own."""
    weights = over_time["loading"][-1]
    for number, phase in enumerate(("prefill", "decode"), start=1):
        start = LEFT + number * PHASE_WIDTH
        points = outline(over_time[phase], start, REQUEST, above=weights)
        fill(picture, points, REQUEST.lower, MIDDLE, edge=MIDDLE)
    draw_axis(picture, REQUEST, (0, 0.5, 1, 1.5), first_phase=1)
    picture.text(LEFT, REQUEST.y(0.8), words["zoom"])
    start = LEFT + PHASE_WIDTH
    picture.text(start + 8, REQUEST.y(1.35), words["teeth"].format(layers=layers), size=SMALL)
    start += PHASE_WIDTH
    said = words["cache"].format(size=cache / GIB)
    picture.text(start + PHASE_WIDTH / 2, REQUEST.y(1.25), said, anchor="middle", size=SMALL)


@cache
def computed() -> tuple[dict, dict]:
    """The memory over time and the forecast, both for the request that is shown."""
    config = load_config(REAL_CONFIG)
    request = {"gpus": CARDS, "prompt": PROMPT, "new": NEW}
    return memory_over_time(config, **request), forecast(config, **request)


def draw(language: str) -> Picture:
    """The picture in one language."""
    words = WORDS[language]
    over_time, result = computed()
    row = result["gpus"][0]
    layers = [part for part, gpu in result["placement"].items() if gpu == 0 and ".layers." in part]
    picture = Picture(670, language, words["title"])
    picture.text(6, 18, words["above"], size=SMALL)
    draw_phases(picture, words)
    draw_all(picture, words, over_time, row["size"])
    draw_request(picture, words, over_time, len(layers), row["kv_cache"])
    return picture


if __name__ == "__main__":
    write(__file__, draw)
