"""Draw for which kind of text each expert of the embedded toy model works.

    python images/draw_routing_heatmap.py             writes routing_heatmap*.svg from routing_heatmap.json
    python images/draw_routing_heatmap.py --record    runs the model first, and writes that file

The counts are kept in a file because processors round differently: a close choice between two experts may
turn out otherwise elsewhere. A test runs the model again and compares.
"""

import json
import sys
from pathlib import Path

import torch
from drawing import BLACK, GREY, SIZE, SMALL, WHITE, Picture, write

from helpers import EMBEDDED_MODEL
from helpers.embedded_model import corpus, measure
from helpers.routing import RoutingRecorder

FILE = Path(__file__).with_name("routing_heatmap.json")
TURNS = 24  # of each kind of text
LAYER = 0  # already the first router can tell the kinds apart: notebook 06, section 5.1
WORDS = {
    "en": {
        "title": "For which kind of text each expert of the embedded toy model works.",
        "layer": "Embedded toy model, layer {layer}: share of each expert's",
        "share": "work by kind of text, in %",
        "expert": "expert {expert}",
        "english": "English",
        "chinese": "Chinese",
        "code": "code",
        "arithmetic": "arithmetic",
    },
    "zh": {
        "title": "内置的玩具模型里，每个专家在处理哪一类文本。",
        "layer": "内置的玩具模型，第 {layer} 层：",
        "share": "每个专家的工作中各类文本所占的百分比",
        "expert": "专家 {expert}",
        "english": "英文",
        "chinese": "中文",
        "code": "代码",
        "arithmetic": "算术",
    },
}
TOP = 112
LEFT = 120
COLUMN = 128
ROW = 34
LIGHTEST = (255, 255, 255)  # of the shades: 0 %
DARKEST = (18, 64, 110)  # 100 %, the dark blue of all pictures


# --- what is drawn ---


@torch.no_grad()
def record() -> dict:
    """How many words of held-out questions and answers each expert got, for each kind of text."""
    model, tokenizer = measure.load(EMBEDDED_MODEL)
    by_kind = {kind: [0] * model.config.num_experts for kind in corpus.KINDS}
    for turn in measure.some_of_each_kind(TURNS):
        ids, content, _ = measure.kinds_of_content(tokenizer, turn)
        with RoutingRecorder(model) as recorder:
            model(ids)
        chosen = recorder.routing.experts[content, LAYER]  # (tokens, k)
        for expert in chosen.ravel().tolist():
            by_kind[turn.kind][expert] += 1
    return {
        "made by": "python images/draw_routing_heatmap.py --record",
        "turns of each kind": TURNS,
        "layer": LAYER,
        "tokens of each expert": by_kind,
    }


def shares(recorded: dict) -> dict[int, dict[str, float]]:
    """For each expert the share of each kind in its work, in %, as if all kinds had equally many tokens."""
    by_kind = recorded["tokens of each expert"]
    parts = {kind: [count / sum(counts) for count in counts] for kind, counts in by_kind.items()}
    found = {}
    for expert in range(len(parts["english"])):
        total = sum(parts[kind][expert] for kind in parts)
        found[expert] = {kind: 100 * parts[kind][expert] / total for kind in parts}
    return found


def in_order(found: dict[int, dict[str, float]]) -> list[int]:
    """The experts by the kind for which they work most, the most one-sided first."""
    kinds = list(corpus.KINDS)

    def place(expert: int) -> tuple[int, float]:
        of_expert = found[expert]
        most = max(kinds, key=of_expert.get)
        return kinds.index(most), -of_expert[most]

    return sorted(found, key=place)


# --- the picture ---


def shade(percent: float) -> str:
    """A blue, the darker the larger the share."""
    part = percent / 100
    red, green, blue = (
        round(light + part * (dark - light)) for light, dark in zip(LIGHTEST, DARKEST, strict=True)
    )
    return f"#{red:02x}{green:02x}{blue:02x}"


def draw(language: str) -> Picture:
    """The picture in one language."""
    words = WORDS[language]
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    found = shares(recorded)
    picture = Picture(TOP + ROW * len(found) + 8, language, words["title"])
    picture.text(6, 20, words["layer"].format(layer=recorded["layer"]))
    picture.text(6, 20 + 1.3 * SIZE, words["share"])
    for column, kind in enumerate(corpus.KINDS):
        picture.text(LEFT + (column + 0.5) * COLUMN, TOP - 20, words[kind], anchor="middle", bold=True)
    for row, expert in enumerate(in_order(found)):
        y = TOP + row * ROW
        said = words["expert"].format(expert=expert)
        picture.text(LEFT - 10, y + ROW / 2, said, anchor="end", size=SMALL)
        for column, kind in enumerate(corpus.KINDS):
            percent = found[expert][kind]
            x = LEFT + column * COLUMN
            picture.bar(x, y, COLUMN, ROW, shade(percent), edge=GREY)
            color = WHITE if percent > 70 else BLACK  # from there on it has more contrast
            picture.text(x + COLUMN / 2, y + ROW / 2, f"{percent:.0f}", anchor="middle", color=color)
    return picture


if __name__ == "__main__":
    torch.set_num_threads(1)  # the model is so small that more threads only wait for each other
    if "--record" in sys.argv[1:]:
        FILE.write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
    write(__file__, draw)
