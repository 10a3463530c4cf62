"""Draw the choices when renting on AutoDL; `python images/draw_autodl_choices.py` writes the picture."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

TAKE, ALSO, LEAVE = "take", "also", "leave"
ROWS = [
    (
        "1  GPU",
        "24 GB a card, and bf16",
        [("RTX 3090", TAKE), ("RTX 4090", ALSO), ("A100 80 GB", ALSO), ("V100 16 GB", LEAVE)],
    ),
    (
        "2  Number of cards",
        "weights: 26.67 GiB",
        [("1 × 24 GB", LEAVE), ("2 × 24 GB", TAKE), ("1 × 80 GB", ALSO)],
    ),
    (
        "3  Image",
        "Python 3.11 to 3.13",
        [("PyTorch, Python 3.12", TAKE), ("PyTorch 2.1, Python 3.10", LEAVE)],
    ),
    (
        "4  Where the model goes",
        "it takes 28.6 GB",
        [("data disk, 50 GB", TAKE), ("system disk, 30 GB", LEAVE)],
    ),
    (
        "5  How to start",
        "GPU time is what costs",
        [("no GPU: install, download", TAKE), ("then with GPUs: run", TAKE)],
    ),
]
STYLES = {
    TAKE: {"facecolor": "#2b2b2b", "edgecolor": "#2b2b2b", "linestyle": "-"},
    ALSO: {"facecolor": "#ececec", "edgecolor": "#2b2b2b", "linestyle": "-"},
    LEAVE: {"facecolor": "white", "edgecolor": "#777777", "linestyle": "--"},
}
MARKS = {TAKE: "✓ ", ALSO: "", LEAVE: "✗ "}


def chip(ax, x, y, width, text, kind) -> None:
    """One choice: dark is what the course takes, light works too, dashed is slow or does not work."""
    ax.add_patch(
        FancyBboxPatch(
            (x, y), width, 0.62, boxstyle="round,pad=0,rounding_size=0.15", linewidth=1.5, **STYLES[kind]
        )
    )
    color = {TAKE: "white", ALSO: "black", LEAVE: "#444444"}[kind]
    ax.text(x + width / 2, y + 0.31, MARKS[kind] + text, ha="center", va="center", fontsize=12, color=color)


def main() -> None:
    """Draw the figure."""
    figure, ax = plt.subplots(figsize=(6.4, 6.6))
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 10.3)
    ax.axis("off")
    y = 9.75
    for title, reason, choices in ROWS:
        ax.text(0.05, y, title, fontsize=14, fontweight="bold", va="center")
        ax.text(9.95, y, reason, fontsize=12, va="center", ha="right", style="italic")
        weights = [len(MARKS[kind] + text) + 2.5 for text, kind in choices]
        unit = (9.9 - 0.15 * (len(choices) - 1)) / sum(weights)
        x = 0.05
        for (text, kind), weight in zip(choices, weights, strict=True):
            chip(ax, x, y - 1.12, unit * weight, text, kind)
            x += unit * weight + 0.15
        y -= 1.88
    for x, kind, text in (
        (0.05, TAKE, "this course"),
        (3.4, ALSO, "works too"),
        (6.5, LEAVE, "slow, or not at all"),
    ):
        chip(ax, x, 0.05, 2.9 if kind == TAKE else 2.7 if kind == ALSO else 3.4, text, kind)
    path = Path(__file__).with_name("autodl_choices.png")
    figure.savefig(path, dpi=140, bbox_inches="tight", pad_inches=0.05, metadata={"Software": None})


if __name__ == "__main__":
    main()
