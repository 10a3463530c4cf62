"""The calculator of notebook 02: turn the knobs of a request, and read what two cards make of it."""

import io

import ipywidgets as widgets

from helpers.language import say, to_say
from helpers.vram.command import verdict
from helpers.vram.configs import context_limit
from helpers.vram.figures import draw_bars
from helpers.vram.forecasting import forecast

NOTE = to_say("The sliders live in JupyterLab: run this cell. The figure above shows their first setting.")
WIDTH = "36em"  # of the picture; a phone shows it smaller
WORDS_HEIGHT = "4.8em"  # room for three lines, so that nothing below moves


class Calculator(widgets.VBox):
    """Sliders for batch and prompt, a switch for attention, the forecast as bars, and its verdict in words.

    `config`: of the model. `gpus` and `new`: as for `forecast`. The prompt's slider goes past what the model
    was trained for, so that the warning can be seen.
    """

    def __init__(self, config, gpus, batch: int, prompt: int, new: int):
        self._config = config
        self._gpus = gpus
        self._new = new
        longest = 40960
        limit = context_limit(config)
        if limit:
            longest = limit + limit // 4
        wide = widgets.Layout(width="98%", max_width=WIDTH)
        slider = {"continuous_update": False, "layout": wide}
        self.batch = widgets.IntSlider(batch, 1, 32, description=say("batch"), **slider)
        self.prompt = widgets.IntSlider(prompt, 256, longest, 256, description=say("prompt"), **slider)
        self.attention = widgets.ToggleButtons(options=["sdpa", "eager"], description=say("attention"))
        self.words = widgets.HTML(
            layout=widgets.Layout(width="98%", max_width=WIDTH, min_height=WORDS_HEIGHT)
        )
        # SVG is drawn by the browser: sharp at every size.
        shown = widgets.Layout(width=WIDTH, max_width="100%")
        self.picture = widgets.Image(format="svg+xml", layout=shown)
        super().__init__([self.batch, self.prompt, self.attention, self.words, self.picture])
        for knob in (self.batch, self.prompt, self.attention):
            knob.observe(self._update, names="value")
        self._update()

    def _update(self, change=None) -> None:
        request = {
            "batch": self.batch.value,
            "prompt": self.prompt.value,
            "attention": self.attention.value,
            "new": self._new,
        }
        result = forecast(self._config, gpus=self._gpus, **request)
        words = verdict(result, self._config, gpus=self._gpus, **request)
        mark = say("Fits.")
        if not result["fits"]:
            mark = say("Does not fit.")
        self.words.value = f"<div style='line-height:1.5'><b>{mark}</b> {words}</div>"
        self.picture.value = picture_of(result)

    def _repr_mimebundle_(self, **options):
        """What JupyterLab shows: the widget where a kernel runs, else a note."""
        note = say(NOTE)
        return {**super()._repr_mimebundle_(**options), "text/plain": note, "text/html": note}


def picture_of(result: dict) -> bytes:
    """The bars of a forecast as SVG. The page has its canvas on white, also where the theme is dark."""
    import matplotlib.pyplot as plt  # imported late: takes a second

    figure = draw_bars(result).figure
    file = io.BytesIO()
    figure.savefig(file, format="svg", facecolor="white")
    plt.close(figure)
    return file.getvalue()
