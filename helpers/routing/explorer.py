"""The explorer of notebook 06: type a text, click a token, pick a layer, see what the router chose."""

import html
from collections.abc import Callable

import ipywidgets as widgets
import numpy as np

from helpers.language import HTML_NAMES, in_its_language, language, listed, say
from helpers.routing.table import Routing, token_labels

MOST_TOKENS = 200  # buttons; a page with thousands of them does not answer any more
LONGEST_BUTTON = 20  # characters
CHART_HEIGHT = 9  # em, of the tallest bar
PAGE = "overflow-wrap:anywhere; line-height:1.5"  # a long token must not widen it
CHOSEN = "background:currentColor; opacity:0.85"
NUMBER = (
    "flex:1; width:0; white-space:nowrap; display:flex; justify-content:center"  # below the middle of its bar
)
NOT_CHOSEN = "background:currentColor; opacity:0.25"


class Explorer(widgets.VBox):
    """Type a text, click a token, pick a layer: shows the router's choice as bars on one axis.

    `record(text)` gives the `Routing` of a text; with `keep_logits` the bars of the experts that were not
    chosen are there, too. The pointer on a token shows its experts. Texts are shown as text, never as HTML.
    Where no kernel runs, a note and the experts of the first token stand in its place. It keeps the language
    that the course speaks when it is built.
    """

    def __init__(self, record: Callable[[str], Routing], tokenizer, text: str):
        self.language = language()
        self._record = record
        self._tokenizer = tokenizer
        self._routing = None
        self._labels = []  # of the tokens
        wide = widgets.Layout(width="98%", max_width="40em")
        self.text = widgets.Text(text, description=say("Text"), continuous_update=False, layout=wide)
        self.layer = widgets.SelectionSlider(options=[0], description=say("Layer"), layout=wide)
        self.token = widgets.ToggleButtons(options=[("", 0)], style={"button_width": "auto"})
        self.view = widgets.HTML(layout=wide)
        super().__init__([self.text, self.token, self.layer, self.view])
        self._read()
        self.text.observe(self._read, "value")
        self.layer.observe(self._choose_layer, "value")
        self.token.observe(self._show, "value")

    @in_its_language
    def _read(self, change=None) -> None:
        """Record the text that is in the field now."""
        self._routing = None
        if not self.text.value.strip():
            self.view.value = say("There is no text: type some words above, and press Enter.")
            return
        try:
            routing = self._record(self.text.value)
        except Exception as error:  # a callback has no other place for it
            sentence = say("This text cannot be shown ({error}): type another one.", error=error)
            self.view.value = html.escape(sentence)
            return
        self._labels = token_labels(self._tokenizer, routing.token_id.tolist())
        shown = self._labels[:MOST_TOKENS]
        self.layer.options = routing.layers.tolist()
        self.token.options = [(button_text(label), place) for place, label in enumerate(shown)]
        self._routing = routing
        self._choose_layer()

    @in_its_language
    def _choose_layer(self, change=None) -> None:
        """Show another layer: the hints of the tokens change, too."""
        if self._routing is None:
            return
        layer = self._place_of_layer()
        first = self._routing.experts[:MOST_TOKENS, layer]  # (tokens, k)
        self.token.tooltips = [say("experts {experts}", experts=listed(row)) for row in first.tolist()]
        self._show()

    @in_its_language
    def _show(self, change=None) -> None:
        """Show the token and layer that are picked now."""
        if self._routing is None:
            return
        token = self.token.value
        heading = say(
            "Token {place}, {token}, layer {layer}",
            place=token,
            token=repr(self._labels[token]),
            layer=self.layer.value,
        )
        note = ""
        if len(self._labels) > MOST_TOKENS:
            tokens = len(self._labels)
            note = say("The first {shown} of {tokens} tokens are shown.", shown=MOST_TOKENS, tokens=tokens)
            note = f"<p>{note}</p>"
        chart = choice_as_html(self._routing, token, self._place_of_layer())
        name = HTML_NAMES[self.language]
        self.view.value = (
            f'<div lang="{name}" style="{PAGE}"><b>{html.escape(heading)}</b>{chart}{note}</div>'
        )

    def _place_of_layer(self) -> int:
        return self._routing.layers.tolist().index(self.layer.value)

    @in_its_language
    def _repr_mimebundle_(self, **options):
        """What Jupyter stores for a page without a kernel: no digits, which processors round differently."""
        data = super()._repr_mimebundle_(**options)
        note = say("Routing explorer: run this cell to use it.")
        if self._routing is not None:
            note = say(
                "Routing explorer: run this cell to use it. In layer {layer}, its first token {token} goes "
                "to the experts {experts}.",
                layer=self._routing.layers[0],
                token=repr(self._labels[0]),
                experts=listed(sorted(self._routing.experts[0, 0].tolist())),
            )
        data["text/plain"] = say("Routing explorer")
        data["text/html"] = f"<p>{html.escape(note)}</p>"
        return data


def button_text(label: str) -> str:
    """A token as the text of a button: spaces and new lines can be seen, a long one is cut off."""
    text = label.replace("\n", "↵").replace("\t", "⇥").replace(" ", "·")
    if len(text) > LONGEST_BUTTON:
        return text[:LONGEST_BUTTON] + "…"
    return text


def choice_as_html(routing: Routing, token: int, layer: int) -> str:
    """Bars of all experts on one axis, and the chosen ones as a line of text."""
    experts = routing.experts[token, layer].tolist()
    weights = routing.weights[token, layer].tolist()
    heights = np.zeros(number_of_experts(routing))
    caption = say("Strong bars: the weights of the chosen experts.")
    if routing.logits is not None:
        heights = softmax(routing.logits[token, layer])
        caption = say(
            "Strong bars: the weights of the chosen experts. Faint bars: the softmax of the scores, for the "
            "others."
        )
    for expert, weight in zip(experts, weights, strict=True):
        heights[expert] = weight
    sentence = weights_in_words(experts, weights)
    if routing.shared_gate is not None:
        sentence = weights_in_words(experts, weights, routing.shared_gate[token, layer])
    return bars_as_html(heights, set(experts)) + f"<p>{sentence}</p><p>{caption}</p>"


def weights_in_words(experts: list[int], weights: list[float], gate: float | None = None) -> str:
    """The chosen experts with their weights, the sum of these, and the gate of the shared expert if any."""
    pairs = []
    for expert, weight in zip(experts, weights, strict=True):
        pairs.append(say("expert {expert}: {weight:.2f}", expert=expert, weight=weight))
    if gate is None:
        return say("{experts}; their sum: {total:.2f}", experts=listed(pairs), total=sum(weights))
    return say(
        "{experts}; their sum: {total:.2f}; shared expert's gate: {gate:.2f}",
        experts=listed(pairs),
        total=sum(weights),
        gate=gate,
    )


def number_of_experts(routing: Routing) -> int:
    """How many experts a layer has; without the scores, up to the last one that was ever chosen."""
    if routing.logits is not None:
        return routing.logits.shape[-1]
    return int(routing.experts.max()) + 1


def softmax(scores: np.ndarray) -> np.ndarray:
    """Scores (experts,) as shares that sum to 1."""
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def bars_as_html(heights: np.ndarray, chosen: set[int]) -> str:
    """A bar for each expert; the axis ends at the next tenth above the tallest."""
    top = max(0.1, np.ceil(heights.max() * 10) / 10)
    step = 1 + len(heights) // 16  # not more numbers below than there is room for
    bars = []
    numbers = []
    for expert, height in enumerate(heights):
        look = NOT_CHOSEN
        if expert in chosen:
            look = CHOSEN
        bars.append(f'<div style="flex:1; margin:0 1px; height:{100 * height / top:.1f}%; {look}"></div>')
        number = ""
        if expert % step == 0:
            number = str(expert)
        numbers.append(f'<div style="{NUMBER}">{number}</div>')
    axis = "display:flex; align-items:flex-end; border-bottom:1px solid; border-left:1px solid"
    above = say("{top:.1f} weight", top=top)
    below = say("expert")
    return (
        f'<div style="font-size:90%">{above}</div>'
        f'<div style="{axis}; height:{CHART_HEIGHT}em">{"".join(bars)}</div>'
        f'<div style="display:flex; font-size:80%; line-height:1.4">{"".join(numbers)}</div>'
        f'<div style="font-size:90%">{below}</div>'
    )
