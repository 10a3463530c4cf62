"""Draw the real model on two cards of 24 GiB; `python images/draw_two_cards.py` writes two_cards*.svg.

Which layer lies where is the answer of transformers' own planner, and every size is that of the forecast of
notebook 02.
"""

from functools import cache

from drawing import BLACK, DARK, GREY, LIGHT, MIDDLE, PALE, SMALL, WHITE, Picture, write
from real_model import CARDS, CONFIG, NEW, PROMPT

from helpers import GIB
from helpers.vram import REAL_CONFIG, forecast, load_config, meta_model

WORDS = {
    "en": {
        "title": "The layers of Qwen1.5-MoE-A2.7B-Chat on two cards, and the room that is left on each.",
        "card": "GPU {gpu}: {size:.0f} GiB",
        "weights": "{weights:.1f} GiB of weights",
        "layer": "layer {number}",
        "request": "a prompt of {prompt:,} tokens\nadds {size:.1f} GiB",
        "free": "{size:.1f} GiB free",
        "crossing": "{size:.0f} KiB\na token",
        "layers": "layers",
        "ends": "embedding, lm_head",
        "reserve": "estimate: CUDA and allocator",
    },
    "zh": {
        "title": "Qwen1.5-MoE-A2.7B-Chat 的各层怎样分到两张卡上，每张卡还剩多少空间。",
        "card": "GPU {gpu}：{size:.0f} GiB",
        "weights": "权重 {weights:.1f} GiB",
        "layer": "第 {number} 层",
        "request": "{prompt:,} 个词元的提示词\n再占 {size:.1f} GiB",
        "free": "空闲 {size:.1f} GiB",
        "crossing": "每个词元\n{size:.0f} KiB",
        "layers": "层",
        "ends": "词嵌入，lm_head",
        "reserve": "估计：CUDA 与分配器",
    },
}
TOP = 70  # upper edge of the cards
PER_GIB = 30  # pixels
CARD_HEIGHT = 24 * PER_GIB
HEIGHT = TOP + CARD_HEIGHT + 42
CARD_WIDTH = 252
LEFT = (6, 382)  # of each card
SMALL_PRINT = 16
BYTES_OF_A_NUMBER = 2  # bf16


def layer_number(part: str) -> str:
    """The number of a layer, from its name; "" for the other parts."""
    number = part.rpartition(".")[2]
    return number if number.isdigit() else ""


def draw_weights(picture: Picture, words: dict, model, placement: dict) -> dict[int, float]:
    """The parts of the model, one below the other, on the card where each lies; where the lowest ends."""
    ends = dict.fromkeys(range(len(CARDS)), float(TOP))
    for part, gpu in placement.items():
        height = PER_GIB * sum(weight.nbytes for weight in model.get_submodule(part).parameters()) / GIB
        number = layer_number(part)
        fill = LIGHT if number else DARK
        if height >= 1:  # the norm is too small to be seen
            picture.bar(LEFT[gpu], ends[gpu], CARD_WIDTH, height, fill)
        if number:
            middle = (LEFT[gpu] + CARD_WIDTH / 2, ends[gpu] + height / 2)
            picture.text(*middle, words["layer"].format(number=number), anchor="middle", size=SMALL)
        ends[gpu] += height
    return ends


def draw_room(picture: Picture, words: dict, row: dict, start: float) -> None:
    """What a request takes, what stays free, and what is an estimate, from `start` to the end of the card."""
    left = LEFT[row["gpu"]]
    middle = left + CARD_WIDTH / 2
    request = row["prefill"] - row["weights"]
    reserve = row["context"] + row["overhead"]
    free = row["size"] - row["weights"] - request - reserve
    height = PER_GIB * request / GIB
    picture.bar(left, start, CARD_WIDTH, height, MIDDLE)
    said = words["request"].format(prompt=PROMPT, size=request / GIB)
    picture.text(middle, start + height / 2, said, anchor="middle", size=SMALL_PRINT, color=WHITE)
    end = TOP + PER_GIB * row["size"] / GIB
    height = PER_GIB * reserve / GIB
    picture.bar(left, end - height, CARD_WIDTH, height, PALE, edge=MIDDLE)
    place = end - height - PER_GIB * free / GIB / 2
    picture.text(middle, place, words["free"].format(size=free / GIB), anchor="middle", bold=True)


def draw_card(picture: Picture, words: dict, row: dict) -> None:
    """The frame of a card, and what stands above it."""
    left = LEFT[row["gpu"]]
    right = left + CARD_WIDTH
    bottom = TOP + PER_GIB * row["size"] / GIB
    corners = [(left, TOP), (right, TOP), (right, bottom), (left, bottom)]
    picture.line(*corners, (left, TOP - 1), color=BLACK, width=2)
    size = row["size"] / GIB
    picture.text(left, 20, words["card"].format(gpu=row["gpu"], size=size), bold=True)
    picture.text(left, 46, words["weights"].format(weights=row["weights"] / GIB))


def draw_crossing(picture: Picture, words: dict, from_y: float, to_y: float) -> None:
    """What a token brings from the last layer of the first card to the first one of the other."""
    right = LEFT[0] + CARD_WIDTH
    x = right + 26
    picture.arrow((right, from_y), (x, from_y), (x, to_y), (LEFT[1], to_y))
    crossing = CONFIG["hidden_size"] * BYTES_OF_A_NUMBER / 2**10
    picture.text(x + 10, (from_y + to_y) / 2, words["crossing"].format(size=crossing), size=SMALL)


def draw_legend(picture: Picture, words: dict) -> None:
    """What the colours mean."""
    y = HEIGHT - 20
    entries = [(6, LIGHT, GREY, "layers"), (118, DARK, DARK, "ends"), (336, PALE, MIDDLE, "reserve")]
    for x, fill, edge, word in entries:
        picture.bar(x, y - 9, 26, 18, fill, edge=edge)
        picture.text(x + 34, y, words[word], size=SMALL_PRINT)


@cache
def computed() -> tuple:
    """The model without bytes, and the forecast for the request that is shown."""
    config = load_config(REAL_CONFIG)
    return meta_model(config), forecast(config, gpus=CARDS, prompt=PROMPT, new=NEW)


def draw(language: str) -> Picture:
    """The picture in one language."""
    words = WORDS[language]
    model, result = computed()
    picture = Picture(HEIGHT, language, words["title"])
    ends = draw_weights(picture, words, model, result["placement"])
    for row in result["gpus"]:
        draw_room(picture, words, row, ends[row["gpu"]])
        draw_card(picture, words, row)
    half_a_layer = PER_GIB / 2
    draw_crossing(picture, words, ends[0] - half_a_layer, TOP + half_a_layer)
    draw_legend(picture, words)
    return picture


if __name__ == "__main__":
    write(__file__, draw)
