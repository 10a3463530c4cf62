"""What the prompt box shows: a model's text as HTML that can do nothing, and the look of the bubbles."""

import html
import itertools
import re

STYLE = """<style>
.chat { border: 1px solid var(--jp-border-color2, #ccc); border-radius: 8px; padding: 10px; max-width: 860px }
.chat .widget-html { height: auto } .chat .widget-html-content { line-height: 1.5; min-width: 0 }
.chat-log { max-height: 420px; overflow-y: auto } .chat-log .widget-vbox { flex: none; overflow: visible }
.chat-user { background: rgba(33, 150, 243, 0.28); align-self: flex-end }
.chat-model { background: var(--jp-layout-color2, #eee); align-self: flex-start } .chat-status { opacity: .7 }
.chat-user, .chat-model { max-width: 85%; padding: 6px 12px; border-radius: 12px; overflow-wrap: anywhere }
.chat pre { padding: 8px; overflow-x: auto; white-space: pre; background: var(--jp-layout-color0, #fff) }
.chat { --jp-widgets-inline-label-width: 90px } .chat-notice { color: var(--jp-warn-color0, #a60) }</style>"""


# A fence that is not closed runs to the end: the rest of the code is still being generated.
FENCE, CODE = r"```[^\n`]*\n(?P<fence>.*?)(?:\n?```\n?|\Z)", r"`(?P<code>[^`\n]+)`"
BOLD, LINE = r"\*\*(?=\S)(?P<bold>[^*\n]+)(?<=\S)\*\*", r"(?P<line>\n)"
MARKUP = re.compile("|".join((FENCE, CODE, BOLD, LINE)), re.DOTALL)
TAGS = {"fence": "<pre><code>{}</code></pre>", "code": "<code>{}</code>", "bold": "<b>{}</b>", "line": "<br>"}


def render(text: str) -> str:
    """HTML of a text: code fences, inline code, bold, line breaks. All else is escaped and shows as typed."""
    return MARKUP.sub(lambda m: TAGS[m.lastgroup].format(m[m.lastgroup]), html.escape(text))


def routing_strip(routing, tokenizer) -> str:
    """HTML: the tokens of an answer, coloured by their first expert in the last layer of a `Routing`."""
    spans = []
    for token, (expert, *_) in zip(routing.token_id, routing.experts[:, -1].tolist(), strict=True):
        style = f"background: hsl({137 * expert % 360}, 70%, 80%); color: #222"
        text = html.escape(tokenizer.decode([int(token)]))
        spans.append(f'<span title="expert {expert}" style="{style}">{text}</span>')
    answer = "".join(itertools.compress(spans, routing.decode))
    return f"<hr>First expert of each token in layer {routing.layers[-1]}: {answer}"
