"""Draw one layer of Qwen1.5-MoE-A2.7B: `python images/draw_moe_layer.py` writes moe_layer*.svg.

Solid lines carry the token, dashed ones the router's weights.
"""

from drawing import BLACK, DARK, GREY, MIDDLE, PALE, SIZE, SKIPPED, SMALL, WHITE, Picture, write
from real_model import CONFIG

WORDS = {
    "en": {
        "title": "One layer of a mixture-of-experts model, for one token.",
        "token": "one token: {hidden_size} numbers",
        "attention": "attention (looks at earlier tokens)",
        "residual": "residual path",
        "router": "router:\n{num_experts} scores,\nbest {num_experts_per_tok} win",
        "routed": "{num_experts} routed experts",
        "shared": "shared\nexpert,\n{times} × as wide",
        "gate": "× its gate",
        "sum": "weighted sum",
        "next": "to the next of {num_hidden_layers} such layers",
        "solid": "the token",
        "dashed": "weights of the router",
        "computed": "computed",
        "skipped": "skipped for this token",
    },
    "zh": {
        "title": "混合专家模型的一层怎样处理一个词元。",
        "token": "一个词元：{hidden_size} 个数",
        "attention": "注意力（回看前面的词元）",
        "residual": "残差路径",
        "router": "路由器：\n{num_experts} 个分数，\n取前 {num_experts_per_tok} 名",
        "routed": "{num_experts} 个路由专家",
        "shared": "共享专家，\n{times} 倍宽",
        "gate": "× 门控",
        "sum": "加权求和",
        "next": "去下一层，这样的层共有 {num_hidden_layers} 个",
        "solid": "词元",
        "dashed": "路由器给的权重",
        "computed": "参与计算",
        "skipped": "这个词元不用",
    },
}

# An example: expert -> weight. Where they stand, and the experts beside them that are skipped.
CHOSEN = {4: "0.19", 17: "0.11", 23: "0.08", 51: "0.06"}
PLACES = {0: 176, 4: 232, 17: 292, 23: 352, 51: 412, 59: 467}
GAPS = [202.5, 262, 322, 382, 441]

RESIDUAL_X = 18
ROUTER_X = 92
SHARED_X = 569
MAIN_X = 318
TURN = 236  # height at which the token goes to all who work on it
SUM_Y = 540
PLUS = 36  # side of the sign for an addition


def centred(picture: Picture, x, y, width, height, text="", **look) -> None:
    """A box with its centre at (x, y)."""
    picture.box(x - width / 2, y - height / 2, width, height, text, **look)


def plus(picture: Picture, x, y) -> None:
    """The sign for an addition."""
    centred(picture, x, y, PLUS, PLUS, "+", size=24)


def draw_attention(picture: Picture, words: dict) -> None:
    """The upper part: the token, attention, and the path past it."""
    picture.arrow((MAIN_X, 44), (MAIN_X, 88))
    picture.arrow((MAIN_X, 64), (RESIDUAL_X, 64), (RESIDUAL_X, 178), (MAIN_X - PLUS / 2, 178))
    picture.arrow((MAIN_X, 130), (MAIN_X, 178 - PLUS / 2))
    centred(picture, MAIN_X, 24, 360, 42, words["token"].format(**CONFIG))
    centred(picture, MAIN_X, 109, 430, 42, words["attention"])
    plus(picture, MAIN_X, 178)
    picture.text(RESIDUAL_X + 12, 160, words["residual"], color=DARK)


def draw_inputs(picture: Picture) -> None:
    """The token goes into the router, the chosen experts, the shared expert, and past all of them."""
    picture.line((MAIN_X, 178 + PLUS / 2), (MAIN_X, TURN))
    picture.line((RESIDUAL_X, TURN), (SHARED_X, TURN))
    targets = {ROUTER_X: 274, SHARED_X: 286} | {PLACES[expert]: 290 for expert in CHOSEN}
    for x, top in targets.items():
        picture.arrow((x, TURN), (x, top))


def draw_experts(picture: Picture, words: dict) -> None:
    """Router, experts, and their names."""
    centred(picture, ROUTER_X, 320, 114, 92, words["router"].format(**CONFIG), edge=MIDDLE)
    for expert, x in PLACES.items():
        if expert in CHOSEN:
            centred(picture, x, 318, 38, 56, str(expert), fill=DARK, color=WHITE)
        else:
            centred(picture, x, 318, 32, 56, str(expert), fill=SKIPPED, edge=GREY, color=BLACK)
    for x in GAPS:
        picture.text(x, 318, "…", anchor="middle", color=GREY, size=15)
    picture.text(154, TURN - 20, words["routed"].format(**CONFIG))
    times = CONFIG["shared_expert_intermediate_size"] // CONFIG["moe_intermediate_size"]
    said = words["shared"].format(times=times)
    centred(picture, SHARED_X, 322, 130, 72, said, fill=DARK, color=WHITE, size=SMALL)


def draw_weights(picture: Picture, words: dict) -> None:
    """Dashed: from the router to the weight of each chosen expert."""
    beside = 14  # of the line that carries the token
    last = max(PLACES[expert] for expert in CHOSEN) - beside
    picture.line((ROUTER_X, 366), (ROUTER_X, 396), (last, 396), color=MIDDLE, dashed=True)
    for expert, weight in CHOSEN.items():
        x = PLACES[expert]
        picture.line((x, 346), (x, 426))
        picture.arrow((x - beside, 396), (x - beside, 426), color=MIDDLE, dashed=True)
        picture.arrow((x, 466), (x, SUM_Y - 22))
        centred(picture, x, 446, 56, 40, f"×{weight}", fill=PALE, edge=MIDDLE, size=16)
    picture.line((SHARED_X, 358), (SHARED_X, 426))
    picture.arrow((SHARED_X, 466), (SHARED_X, SUM_Y - 22))
    centred(picture, SHARED_X, 446, 120, 40, words["gate"], fill=PALE, edge=MIDDLE)


def draw_sum(picture: Picture, words: dict) -> None:
    """The lower end: the sum, the residual path, the next layer."""
    centred(picture, 410, SUM_Y, 440, 42, words["sum"])
    picture.arrow((MAIN_X, SUM_Y + 21), (MAIN_X, 612 - PLUS / 2))
    picture.arrow((RESIDUAL_X, TURN), (RESIDUAL_X, 612), (MAIN_X - PLUS / 2, 612))
    plus(picture, MAIN_X, 612)
    picture.text(RESIDUAL_X + 12, 594, words["residual"], color=DARK)
    picture.arrow((MAIN_X, 612 + PLUS / 2), (MAIN_X, 660))
    centred(picture, MAIN_X, 682, 430, 42, words["next"].format(**CONFIG))


def draw_legend(picture: Picture, words: dict) -> None:
    """What the lines and boxes mean."""
    picture.arrow((10, 740), (66, 740))
    picture.text(80, 740, words["solid"])
    picture.arrow((10, 776), (66, 776), color=MIDDLE, dashed=True)
    picture.text(80, 776, words["dashed"])
    centred(picture, 350, 740, 36, 24, fill=DARK)
    picture.text(380, 740, words["computed"])
    centred(picture, 350, 776, 36, 24, fill=SKIPPED, edge=GREY)
    picture.text(380, 776, words["skipped"])


def draw(language: str) -> Picture:
    """The picture in one language."""
    words = WORDS[language]
    picture = Picture(776 + SIZE, language, words["title"])
    draw_attention(picture, words)
    draw_inputs(picture)
    draw_experts(picture, words)
    draw_weights(picture, words)
    draw_sum(picture, words)
    draw_legend(picture, words)
    return picture


if __name__ == "__main__":
    write(__file__, draw)
