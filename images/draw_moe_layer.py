"""Draw one layer of Qwen1.5-MoE-A2.7B: `python images/draw_moe_layer.py` writes moe_layer.svg.

Solid lines carry the token, dashed ones the router's weights. The colours differ in lightness and the lines
in kind, so that the picture also reads in grey. Twice run, the file is the same to the byte.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

TOKEN = "#12406e"  # dark blue: the token and what computes with it
WEIGHT = "#b85408"  # orange, lighter than the blue: the router and its weights
WEIGHT_FILL = "#fdebd9"
SKIPPED = "#e9e9e9"
GREY = "#6b6b6b"
SIZE = 12  # points; at 390 pixels of width this is still about 10 pixels

# An example: expert -> weight. Where they stand, and the experts beside them that are skipped.
CHOSEN = {4: "0.19", 17: "0.11", 23: "0.08", 51: "0.06"}
PLACES = {0: 3.75, 4: 4.8, 17: 5.95, 23: 7.1, 51: 8.25, 59: 9.25}
GAPS = [4.25, 5.375, 6.525, 7.675, 8.78]

RESIDUAL_X = 0.45
ROUTER_X = 2.15
SHARED_X = 11.25
MAIN_X = 6.5


def box(ax, x, y, width, height, text, *, fill="white", edge=TOKEN, color="black", size=SIZE):
    """A rounded box with its centre at (x, y)."""
    patch = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.14",
        facecolor=fill,
        edgecolor=edge,
        linewidth=1.6,
        zorder=3,
    )
    ax.add_patch(patch)
    ax.text(x, y, text, ha="center", va="center", fontsize=size, color=color, zorder=4, linespacing=1.15)


def path(ax, *points, dashed=False, head=True):
    """A line through the points, with an arrow head at its end."""
    color = WEIGHT if dashed else TOKEN
    line = (0, (3, 1.6)) if dashed else "-"
    before_the_end = points[:-1]
    xs = [x for x, _ in before_the_end]
    ys = [y for _, y in before_the_end]
    ax.plot(xs, ys, color=color, linestyle=line, lw=1.9, solid_capstyle="round")
    style = "-|>" if head else "-"
    arrow = FancyArrowPatch(
        points[-2],
        points[-1],
        arrowstyle=style,
        mutation_scale=13,
        color=color,
        linestyle=line,
        lw=1.9,
        shrinkA=0,
        shrinkB=0,
        zorder=2,
    )
    ax.add_patch(arrow)


def plus(ax, x, y):
    """The sign for an addition."""
    box(ax, x, y, 0.72, 0.72, "+", size=16)


def draw_attention(ax) -> None:
    """The upper half: the token, attention, and the path past it."""
    box(ax, MAIN_X, 14.3, 6.8, 0.9, "one token: 2048 numbers")
    path(ax, (MAIN_X, 13.85), (MAIN_X, 12.95))
    box(ax, MAIN_X, 12.45, 8.2, 0.9, "attention (looks at earlier tokens)")
    path(ax, (MAIN_X, 12.0), (MAIN_X, 11.36))
    plus(ax, MAIN_X, 11.0)
    path(ax, (MAIN_X, 13.4), (RESIDUAL_X, 13.4), (RESIDUAL_X, 11.0), (MAIN_X - 0.36, 11.0))
    ax.text(RESIDUAL_X + 0.2, 11.27, "residual path", fontsize=SIZE, color=TOKEN, va="bottom")


def draw_inputs(ax) -> None:
    """The token goes into the router, the chosen experts, the shared expert, and past all of them."""
    path(ax, (MAIN_X, 10.64), (MAIN_X, 9.75), head=False)
    path(ax, (RESIDUAL_X, 9.75), (SHARED_X, 9.75), head=False)
    targets = {ROUTER_X: 8.85, SHARED_X: 8.55} | {PLACES[expert]: 8.55 for expert in CHOSEN}
    for x, top in targets.items():
        path(ax, (x, 9.75), (x, top))


def draw_experts(ax) -> None:
    """Router, experts, and the weights with which their results are multiplied."""
    box(ax, ROUTER_X, 7.9, 2.3, 1.9, "router:\n60 scores,\nbest 4 win", edge=WEIGHT)
    for expert, x in PLACES.items():
        if expert in CHOSEN:
            box(ax, x, 8.0, 0.72, 1.1, str(expert), fill=TOKEN, color="white")
        else:
            box(ax, x, 8.0, 0.72, 1.1, str(expert), fill=SKIPPED, edge=GREY, color=GREY)
    for x in GAPS:
        ax.text(x, 8.0, "…", ha="center", va="center", fontsize=SIZE, color=GREY)
    ax.text(3.3, 9.95, "60 routed experts", fontsize=SIZE, va="bottom")
    box(ax, SHARED_X, 8.0, 2.7, 1.1, "shared expert,\n4 × as wide", fill=TOKEN, color="white")


def draw_weights(ax) -> None:
    """Dashed: from the router to the weight of each chosen expert."""
    last = max(PLACES[expert] for expert in CHOSEN) - 0.32
    path(ax, (ROUTER_X, 6.95), (ROUTER_X, 6.5), (last, 6.5), dashed=True, head=False)
    for expert, weight in CHOSEN.items():
        x = PLACES[expert]
        path(ax, (x, 7.45), (x, 5.95), head=False)
        path(ax, (x - 0.32, 6.5), (x - 0.32, 5.95), dashed=True)
        box(ax, x, 5.55, 1.08, 0.8, f"×{weight}", fill=WEIGHT_FILL, edge=WEIGHT, size=11.5)
        path(ax, (x, 5.15), (x, 4.35))
    path(ax, (SHARED_X, 7.45), (SHARED_X, 5.95), head=False)
    box(ax, SHARED_X, 5.55, 2.0, 0.8, "× its gate", fill=WEIGHT_FILL, edge=WEIGHT)
    path(ax, (SHARED_X, 5.15), (SHARED_X, 4.35))


def draw_sum(ax) -> None:
    """The lower end: the sum, the residual path, the next layer."""
    box(ax, 8.2, 3.9, 8.4, 0.9, "weighted sum")
    path(ax, (MAIN_X, 3.45), (MAIN_X, 2.81))
    plus(ax, MAIN_X, 2.45)
    path(ax, (RESIDUAL_X, 9.75), (RESIDUAL_X, 2.45), (MAIN_X - 0.36, 2.45))
    ax.text(RESIDUAL_X + 0.2, 2.72, "residual path", fontsize=SIZE, color=TOKEN, va="bottom")
    path(ax, (MAIN_X, 2.09), (MAIN_X, 1.45))
    box(ax, MAIN_X, 0.95, 8.2, 0.9, "to the next of 24 such layers")


def draw_legend(ax) -> None:
    """What the lines and boxes mean."""
    path(ax, (0.2, -0.35), (1.3, -0.35))
    ax.text(1.5, -0.35, "the token", fontsize=SIZE, va="center")
    path(ax, (0.2, -1.15), (1.3, -1.15), dashed=True)
    ax.text(1.5, -1.15, "weights of the router", fontsize=SIZE, va="center")
    box(ax, 7.6, -0.35, 0.7, 0.5, "", fill=TOKEN)
    ax.text(8.15, -0.35, "computed", fontsize=SIZE, va="center")
    box(ax, 7.6, -1.15, 0.7, 0.5, "", fill=SKIPPED, edge=GREY)
    ax.text(8.15, -1.15, "skipped for this token", fontsize=SIZE, va="center")


def main() -> None:
    """Draw the figure."""
    plt.rcParams["svg.hashsalt"] = "moe_layer"  # else the names inside the file are random
    figure = plt.figure(figsize=(6.4, 8.2))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, 12.7)
    ax.set_ylim(-1.6, 14.9)
    ax.axis("off")
    draw_attention(ax)
    draw_inputs(ax)
    draw_experts(ax)
    draw_weights(ax)
    draw_sum(ax)
    draw_legend(ax)
    file = Path(__file__).with_name("moe_layer.svg")
    figure.savefig(file, bbox_inches="tight", pad_inches=0.06, facecolor="white", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
