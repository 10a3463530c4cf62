"""The explorer of notebook 06: type a text, pick a layer and a token, see the experts."""

import html
from collections.abc import Callable

import ipywidgets as widgets
import pandas as pd


class Explorer(widgets.VBox):
    """Type a text, pick a layer and a token: shows the experts and their weights.

    `record(text)` gives the table of `Routing.to_frame` for it. Texts are shown as text, never as HTML.
    Where no kernel runs, a note and the first token's table stand in its place.
    """

    def __init__(self, record: Callable[[str], pd.DataFrame], text: str):
        self._record = record
        self._table = pd.DataFrame()
        wide = widgets.Layout(width="98%", max_width="40em")
        self.text = widgets.Text(text, description="Text", continuous_update=False, layout=wide)
        self.layer = widgets.Dropdown(options=[0], description="Layer")
        self.token = widgets.SelectionSlider(options=[("", 0)], description="Token", layout=wide)
        self.view = widgets.HTML()
        super().__init__([self.text, self.layer, self.token, self.view])
        self._read()
        self.text.observe(self._read, "value")
        self.layer.observe(self._show, "value")
        self.token.observe(self._show, "value")

    def _read(self, change=None) -> None:
        """Record the text that is in the field now."""
        try:
            self._table = self._record(self.text.value)
        except Exception as error:  # a callback has no other place for it
            self.view.value = html.escape(f"This text cannot be shown ({error}): type another one.")
            return
        tokens = self._table.drop_duplicates("position").set_index("position")["token"]
        options = [(f"{place} {token!r}", place) for place, token in tokens.items()]
        self.layer.options = sorted(set(self._table["layer"]))
        self.token.options = options
        self._show()

    def _show(self, change=None) -> None:
        """Show the token and layer that are picked now."""
        layer = self._table[self._table["layer"] == self.layer.value]
        self.view.value = experts_as_html(layer[layer["position"] == self.token.value])

    def _repr_mimebundle_(self, **options):
        """What Jupyter stores for a page without a kernel."""
        data = super()._repr_mimebundle_(**options)
        note = "<p>Routing explorer: run this cell to use it. Its first view:</p>"
        data["text/plain"] = "Routing explorer"
        data["text/html"] = note + self.view.value
        return data


def experts_as_html(rows: pd.DataFrame) -> str:
    """The experts of one token in one layer, with a bar for each weight."""
    first = rows.iloc[0]
    token = html.escape(repr(first["token"]))
    lines = [f"<b>Token {token}, layer {first['layer']}</b>"]
    for expert, weight in rows.set_index("expert")["weight"].items():
        style = f"display:inline-block; height:0.8em; width:{20 * weight:.2f}em; background:gray"
        lines.append(f'expert {expert}: {weight:.3f} <span style="{style}"></span>')
    lines.append(f"sum of the weights: {rows['weight'].sum():.3f}")
    if "shared_gate" in rows:
        lines.append(f"shared expert's gate: {first['shared_gate']:.3f}")
    return "<br>".join(lines)
