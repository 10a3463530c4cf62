"""A model's text as HTML: what it looks like, and that it can do nothing."""

import html.parser
import time

import hostile_texts
import pytest
from fake_chat import ask, bubbles

from helpers.prompt_box import render


class TagCollector(html.parser.HTMLParser):
    """What a browser would see: the tags, their attributes, and the text between them."""

    def __init__(self, page: str):
        super().__init__()
        self.tags = set()
        self.attributes = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "br":
            self.text += "\n"

    def handle_data(self, data):
        self.text += data


HOSTILE = hostile_texts.texts(code="alert(1)", request="probe")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(make_box, text):
    for length in range(1, len(text) + 1):  # also every state while it streams
        seen = TagCollector(render(text[:length]))
        assert seen.tags <= {"pre", "code", "b", "br"}
        assert seen.attributes == []
    box = make_box([text])
    ask(box, text)
    assert bubbles(box) == [(render(text.strip()), render(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo", "one<br>two"),
        ("a **bold** b", "a <b>bold</b> b"),
        ("2 ** 3 ** 4", "2 ** 3 ** 4"),
        ("2**3 is 8 and 2**4 is 16", "2**3 is 8 and 2**4 is 16"),
        ("x**2 + f(y)**2, **bold**", "x**2 + f(y)**2, <b>bold</b>"),
        ("这是**重点**内容", "这是<b>重点</b>内容"),
        ("# no heading\n- no list\n> 中文", "# no heading<br>- no list<br>&gt; 中文"),
    ],
)
def test_lines_and_bold(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call `f(**x)` now", "call <code>f(**x)</code> now"),
        ("call ```f(x)``` now", "call <code>f(x)</code> now"),
        ("```f(x)```", "<code>f(x)</code>"),
        ("type ``a `b` c`` here", "type <code>a `b` c</code> here"),
        ("a lone ` stays", "a lone ` stays"),
        ("`one line\nonly`", "`one line<br>only`"),
    ],
)
def test_code_in_a_line(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```\nx = 1\n\ny < 2\n```\nend", "<pre><code>x = 1\n\ny &lt; 2</code></pre>end"),
        ("so:\n```\nx = **1", "so:<br><pre><code>x = **1</code></pre>"),
        ("```\na\n```\n```\nb\n```", "<pre><code>a</code></pre><pre><code>b</code></pre>"),
        ("````\na\n```\nb\n````\nend", "<pre><code>a\n```\nb</code></pre>end"),
        ("1. do:\n   ```\n   ls\n     -a\n   ```\nend", "1. do:<br><pre><code>ls\n  -a</code></pre>end"),
        ("1. ```sh\n   ls\n   ```\nend", "1. <b>sh</b><pre><code>ls</code></pre>end"),
        ("1. a\n   ```py b.py\n   c\n   ```", "1. a<br><b>py b.py</b><pre><code>c</code></pre>"),
        ("```\n  kept\n```", "<pre><code>  kept</code></pre>"),
        ("```\n```", "<pre><code></code></pre>"),
        ("```\r\na\r\n```\r\nend", "<pre><code>a\r</code></pre>end"),
    ],
)
def test_blocks_of_code(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\nx = 1\n```", "<b>python</b><pre><code>x = 1</code></pre>"),
        ("``` c++ \nint x;\n```", "<b>c++</b><pre><code>int x;</code></pre>"),
        ("```python\nx = 1", "<b>python</b><pre><code>x = 1</code></pre>"),
        ('```py title="a.py"\nx\n```', "<b>py title=&quot;a.py&quot;</b><pre><code>x</code></pre>"),
    ],
)
def test_what_a_block_says_about_its_code_is_shown(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Like this: ```python\nx\n```\nend", "Like this: <b>python</b><pre><code>x</code></pre>end"),
        ("So: ```\n  x\n```\nend", "So: <pre><code>  x</code></pre>end"),
        (
            "One: ```sh\na\n```\nTwo: ```sh\nb\n```",
            "One: <b>sh</b><pre><code>a</code></pre>Two: <b>sh</b><pre><code>b</code></pre>",
        ),
        ("```js // a.js\nx\n```\nend", "<b>js // a.js</b><pre><code>x</code></pre>end"),
        ("A block ends with ```\ntext\n```\nx\n```\nend", "A block ends with ```<br>text<br>CODE<br>end"),
        ("``` begins a block.\n```py\nx\n```\nend", "``` begins a block.<br><b>py</b>CODE<br>end"),
    ],
)
def test_a_block_that_opens_behind_a_sentence(text, expected):
    code = "<pre><code>x</code></pre>"
    assert render(text) == expected.replace("CODE<br>", code)


@pytest.mark.parametrize(
    "text",
    [
        "Three backticks, ```, open a block of code.\nThe next line is text.",
        "Write ``` above the code and ``` below it.\nThe next line is text.",
        "Write ```python above the code.\nThe next line is text.",
        "``` is how a block of code begins.\nThe next line is text.",
        "A block ends with ```\nThe next line is text.",
        "```",
        "text\n```",
        "中文里的 ``` 也一样，\n下一行还是文字。",
    ],
)
def test_backticks_in_a_sentence_stay_text(text):
    seen = TagCollector(render(text))
    assert seen.tags <= {"br"}
    assert seen.text == text


@pytest.mark.parametrize(
    "part",
    [
        "`",
        "**",
        "**a",
        "```\n",
        "``` two words\n",
        "```` two words\n```\n",
        "\n",
        "``a`b",
        "``a ```b ",
        "```a ",
        "`a``b```c",
    ],
)
def test_rendering_takes_no_longer_than_the_text_is_long(part):
    """A safety net: linear, these take less than a second of CPU time; quadratic, several minutes."""
    started = time.thread_time()
    render(part * 100_000)
    assert time.thread_time() - started < 20
