"""Figures of notebook 02: memory over time, where the layers lie, and the forecast as bars.

Greys and hatches only, so that they can be read in print and by everybody; every figure has the same size
whatever it shows.
"""

from helpers import GIB
from helpers.vram.forecasting import PHASES

FONT = 12  # points: a figure of 6 inches is still readable on a phone
SIZE = (6.4, 4.0)  # inches
BAR_PARTS = {
    "weights": {"color": "0.85"},
    "request": {"color": "0.35"},
    "estimates": {"color": "white", "hatch": "///"},
}
PHASE_COLORS = {"loading": "0.85", "prefill": "0.35", "decode": "0.65"}


def new_figure(height: float = SIZE[1]):
    """An empty figure and its axes."""
    import matplotlib.pyplot as plt  # imported late: takes a second

    with plt.rc_context({"font.size": FONT}):
        return plt.subplots(figsize=(SIZE[0], height), layout="constrained")


def draw_over_time(over_time: dict[str, list[int]], above: int = 0, card: int | None = None):
    """What is in use on a GPU, step by step, in GiB; each phase has its own grey. Returns the axes.

    `over_time`: phase -> bytes, as `memory_over_time` gives it; phases without entries are left out.
    `above`: bytes that are subtracted, such as the weights. `card`: its size in bytes, drawn as a dashed
    line. Every phase gets the same width.
    """
    _, axes = new_figure()
    highest = card or 0
    for number, (phase, history) in enumerate(over_time.items()):
        # From `number` to `number + 1`, one point for each change.
        steps = [number + index / len(history) for index in range(len(history))]
        values = [(live - above) / GIB for live in history]
        color = PHASE_COLORS[phase]
        axes.fill_between(steps, values, step="post", color=color, linewidth=0)
        axes.step(steps, values, where="post", color="black", linewidth=0.8)
        highest = max(highest, max(history) - above)
    axes.set_xticks([number + 0.5 for number in range(len(over_time))], list(over_time))
    axes.tick_params(axis="x", length=0)
    for number in range(1, len(over_time)):
        axes.axvline(number, color="black", linewidth=0.8)
    axes.set(xlim=(0, len(over_time)), ylim=(0, 1.1 * highest / GIB), xlabel="step after step", ylabel="GiB")
    if card:
        axes.axhline(card / GIB, color="black", linestyle="--")
        axes.text(0.05, card / GIB, "card", va="bottom")
    return axes


def draw_placement(model, placement: dict[str, int]):
    """The weights of each GPU as a bar, part by part; layers have their number. Returns the axes."""
    _, axes = new_figure(height=2.6)
    start = dict.fromkeys(placement.values(), 0)
    for part, gpu in placement.items():
        size = sum(parameter.nbytes for parameter in model.get_submodule(part).parameters()) / GIB
        number = part.rpartition(".")[2]
        color = "white"
        if number.isdigit():
            color = "0.85"
            axes.text(start[gpu] + size / 2, gpu, number, ha="center", va="center", fontsize=9)
        axes.barh(gpu, size, left=start[gpu], color=color, edgecolor="black")
        start[gpu] += size
    axes.set_yticks(list(start), [f"GPU {gpu}" for gpu in start])
    axes.invert_yaxis()
    axes.set(xlabel="GiB of weights (white: embedding, norm, lm_head)")
    return axes


def heights(row: dict[str, int], phase: str) -> dict[str, float]:
    """The parts of one bar in GiB. What the allocator holds in vain counts where the GPU's peak is."""
    estimates = row["context"]
    if phase == max(PHASES, key=row.get):
        estimates += row["overhead"]
    parts = {"weights": row["weights"], "request": row[phase] - row["weights"], "estimates": estimates}
    return {name: size / GIB for name, size in parts.items()}


def draw_bars(result: dict):
    """A forecast: a bar for each GPU and phase, and the size of the cards as a dashed line. Returns the axes.

    The axis ends above the highest bar, and the legend stands above the axes, so that nothing is clipped.
    """
    figure, axes = new_figure()
    position = 0
    ticks = {}  # position -> label
    top = max(row["size"] for row in result["gpus"]) / GIB
    for row in result["gpus"]:
        start = position
        for phase in PHASES:
            base = 0
            for name, height in heights(row, phase).items():
                style = BAR_PARTS[name]
                axes.bar(position, height, 0.8, base, edgecolor="black", label=name, **style)
                base += height
            ticks[position] = phase
            top = max(top, base)
            position += 1
        axes.hlines(row["size"] / GIB, start - 0.5, position - 0.5, colors="black", linestyles="--")
        ticks[start + 1] += f"\nGPU {row['gpu']}"
        position += 0.5
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="x", length=0, labelsize=10)
    axes.set(ylabel="GiB", ylim=(0, 1.05 * top))
    figure.legend(axes.containers[: len(BAR_PARTS)], BAR_PARTS, ncols=3, loc="outside upper center")
    return axes
