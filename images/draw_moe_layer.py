"""Draw one layer of Qwen1.5-MoE-A2.7B: `python images/draw_moe_layer.py` writes moe_layer.png."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # behind a text on a line
DARK, LIGHT, LINE = "#2b2b2b", "#ececec", "#555555"
CHOSEN = {4: "0.19", 17: "0.11", 23: "0.08", 51: "0.06"}  # an example: expert -> weight
SHOWN = [0, 1, None, 4, None, 17, None, 23, None, 51, None, 59]  # None: left out


def box(ax, x, y, width, height, text, *, dark=False, white=False, size=13):
    """A rounded box with its centre at (x, y)."""
    style = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=DARK if dark else "white" if white else LIGHT,
        edgecolor=DARK,
        linewidth=1.4,
    )
    ax.add_patch(style)
    ax.text(x, y, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")


def arrow(ax, start, end, *, dashed=False):
    """An arrow between two points."""
    line = "--" if dashed else "-"
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color=LINE, linestyle=line, lw=1.5)
    )


def main() -> None:
    """Draw the figure."""
    figure, ax = plt.subplots(figsize=(6.4, 8.0))
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 12.7)
    ax.axis("off")

    box(ax, 5, 0.55, 6.6, 0.8, "one token: 2048 numbers", white=True)
    box(ax, 5, 2.0, 6.6, 0.9, "attention (looks at earlier tokens)", white=True)
    arrow(ax, (5, 0.95), (5, 1.55))
    arrow(ax, (4.2, 2.45), (3.3, 3.35))
    arrow(ax, (6.6, 2.45), (8.5, 5.75))

    box(ax, 3.3, 3.8, 6.0, 0.9, "router: 60 scores, best 4 win", white=True, size=12.5)
    x_positions = [0.35 + 0.58 * i for i in range(len(SHOWN))]
    for x, expert in zip(x_positions, SHOWN, strict=True):
        if expert is None:
            ax.text(x, 6.3, "…", ha="center", va="center", fontsize=14)
            continue
        chosen = expert in CHOSEN
        box(ax, x, 6.3, 0.5, 1.1, str(expert), dark=chosen, size=12)
        if chosen:
            arrow(ax, (3.3, 4.25), (x, 5.75))
            arrow(ax, (x, 6.85), (4.4, 9.15))
            ax.text(x, 7.15, f"× {CHOSEN[expert]}", ha="center", fontsize=10.5, bbox=LABEL)
    ax.text(0.1, 7.15, "60 routed\nexperts", fontsize=12)

    box(ax, 8.5, 6.3, 2.6, 1.1, "shared expert,\n4 × as wide", dark=True, size=12.5)
    arrow(ax, (8.5, 6.85), (5.8, 9.15))
    ax.text(8.3, 7.4, "× gate", ha="center", fontsize=12, bbox=LABEL)

    box(ax, 5, 9.55, 3.4, 0.8, "weighted sum", white=True)
    arrow(ax, (5, 9.95), (5, 10.6))
    box(ax, 5, 11.0, 6.6, 0.8, "to the next of 24 such layers", white=True)
    box(ax, 2.4, 12.2, 4.6, 0.7, "computed for this token", dark=True, size=12)
    box(ax, 7.2, 12.2, 4.2, 0.7, "skipped", size=12)

    path = Path(__file__).with_name("moe_layer.png")
    figure.savefig(path, dpi=140, bbox_inches="tight", pad_inches=0.05, metadata={"Software": None})


if __name__ == "__main__":
    main()
