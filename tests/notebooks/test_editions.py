"""The English and the Chinese edition say the same: cells, code, links, numbers, outputs, figures."""

import copy

import pytest
from compare_editions import compare, notebook_differences, page_differences
from edition_code import is_english_sentence
from edition_files import MUST_EXIST, OWN_EXAMPLES, notebook_pairs, page_pairs
from edition_prose import glossary_anchors, link_targets, number_differences

PAIRS = [*notebook_pairs(), *page_pairs()]


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[path.stem for path, _ in PAIRS])
def test_both_editions_say_the_same(english, chinese):
    if not chinese.exists() and english.stem not in MUST_EXIST:
        pytest.skip("no Chinese edition yet")
    assert compare(english, chinese) == []


def test_no_chinese_file_is_alone():
    chinese_files = {chinese for _english, chinese in PAIRS}
    folder = PAIRS[0][1].parent
    assert set(folder.glob("*.ipynb")) | set(folder.glob("*.md")) <= chinese_files


def test_every_agreed_difference_has_a_cell_and_a_reason():
    ids = {}
    for english, _chinese in notebook_pairs():
        ids[english.stem] = english.read_text(encoding="utf-8")
    for key, reason in OWN_EXAMPLES.items():
        notebook, cell = key.split("#")
        assert f'"id": "{cell}"' in ids[notebook] and len(reason) > 20, key


# A small notebook in both editions, and changes of the Chinese one that must be found

ENGLISH_TEXT = """## 3. The load

[contents](../../README.md) · [中文](../zh/01_a.ipynb)

See [router](glossary.md#router-gate), [1.1](#1.1-Count-it).

The router sends 4 of 60 experts a token, 2.7 of 14.3 billion parameters. `top_k` says so, on 28 March 2024:

- one of them
- 87 % of them

| Card | Size |
|---|---|
| A100 | 80 GB |

<img src="../../images/moe.svg" alt="The 4 experts" width="480">

```bash
python -m helpers.inference "What is 3 + 4?"   # ask
```
"""
CHINESE_TEXT = """## 3. 负载

[目录](../../README.zh.md) · [English](../en/01_a.ipynb)

见[路由器](glossary.md#路由器router)、[1.1](#1.1-数一数)。

路由器为每个词元从 60 个专家里选 4 个；143 亿参数中，只有 27 亿参与。2024 年 3 月 28 日起由 `top_k` 决定：

- 其中一个
- 其中 87%

| 显卡 | 大小 |
|---|---|
| A100 | 80 GB |

<img src="../../images/moe_zh.svg" alt="4 个专家" width="480">

```bash
python -m helpers.inference "3 加 4 等于几？"   # 提问
```
"""
ENGLISH_CODE = '''import numpy as np

%matplotlib inline
def share(chosen, k=4):
    """The share of the chosen ones."""
    return chosen / k  # of all of them


print(f"the share: {share(3):.2f} of {k}")
model = load("auto", name="toy")
parts = {"gate": 1, "routed experts": 2}
button = Button(description="Send")'''
CHINESE_CODE = '''import numpy as np

%matplotlib inline
def share(chosen, k=4):
    """被选中的比例。"""
    return chosen / k  # 占全部


print(f"{k} 个里的比例：{share(3):.2f}")
model = load("auto", name="toy")
parts = {"gate": 1, "路由专家": 2}
button = Button(description="发送")'''
OUTPUTS = [
    {"output_type": "stream", "name": "stdout", "text": ["the share: 0.75 of 4\n"]},
    {"output_type": "display_data", "data": {"image/png": "aGVsbG8="}, "metadata": {}},
]


def small_notebook(text: str, code: str, printed: str) -> dict:
    outputs = copy.deepcopy(OUTPUTS)
    outputs[0]["text"] = [printed]
    return {
        "metadata": {"kernelspec": {"name": "python3"}},
        "cells": [
            {"id": "text", "cell_type": "markdown", "metadata": {}, "source": text.splitlines(True)},
            {
                "id": "code",
                "cell_type": "code",
                "metadata": {"tags": ["solution"]},
                "source": code.splitlines(True),
                "outputs": outputs,
            },
        ],
    }


ANCHORS = glossary_anchors("## Router (gate)\n", "## 路由器（router）\n")
ENGLISH_NOTEBOOK = small_notebook(ENGLISH_TEXT, ENGLISH_CODE, "the share: 0.75 of 4\n")
CHINESE_NOTEBOOK = small_notebook(CHINESE_TEXT, CHINESE_CODE, "4 个里的比例：0.75\n")


def test_a_good_translation_passes():
    assert notebook_differences(ENGLISH_NOTEBOOK, CHINESE_NOTEBOOK, ANCHORS) == []


CHANGED_TEXTS = [
    ("## 3. 负载", "### 3. 负载", "headings"),
    ("## 3. 负载", "## 4. 负载", "headings"),
    ("## 3. 负载", "负载", "headings"),
    ("60 个专家", "64 个专家", "numbers"),
    ("143 亿", "14.4 亿", "numbers"),
    ("，只有 27 亿参与", "", "numbers"),
    ("28 日", "29 日", "numbers"),
    ("`top_k`", "`top_p`", "code spans"),
    ("`top_k`", "top-k 设置", "code spans"),
    ("#路由器router", "#共享专家", "links"),
    ("#1.1-", "#1.2-", "links"),
    ("../en/01_a", "../en/02_b", "links"),
    ("README.zh.md", "LICENSE", "links"),
    ("moe_zh.svg", "other.svg", "links"),
    ('width="480"', 'width="48"', "widths"),
    ("- 其中一个\n", "", "list items"),
    ("| A100 | 80 GB |", "| A100 80 GB |", "columns"),
    ("helpers.inference", "helpers.vram", "code block"),
    ("```bash", "```text", "code blocks"),
    ("4 个专家", "the experts of one layer 4", "not translated"),
]


@pytest.mark.parametrize(("old", "new", "what"), CHANGED_TEXTS)
def test_a_changed_text_is_found(old, new, what):
    assert old in CHINESE_TEXT
    changed = small_notebook(CHINESE_TEXT.replace(old, new), CHINESE_CODE, "4 个里的比例：0.75\n")
    found = notebook_differences(ENGLISH_NOTEBOOK, changed, ANCHORS)
    assert any(difference.startswith(f"text: {what}") for difference in found), found


CHANGED_CODE = [
    ("chosen / k", "chosen / (k + 1)", "code: "),
    ("k=4", "k=5", "code: "),
    ("{share(3):.2f}", "{share(3):.1f}", "code: "),
    ("{k} 个", "{chosen} 个", "code: "),
    ('"auto"', '"自动"', "code: "),
    ('name="toy"', 'name="real"', "code: "),
    ('"gate"', '"门控"', "code: "),
    ("%matplotlib inline", "%matplotlib widget", "magic lines"),
    ("def share(", "def share", "code cannot be read"),
    ("  # 占全部", "", "comments: only one edition has them"),
    ("# 占全部", "# of all of them", "not translated"),
    ("被选中的比例。", "The share of the chosen ones.", "not translated"),
    ("{k} 个里的比例：", "of all {k} it has the share: ", "not translated"),
    ("import numpy as np\n", "import numpy as np\nimport pandas as pd\n", "code: "),
]


@pytest.mark.parametrize(("old", "new", "what"), CHANGED_CODE)
def test_changed_code_is_found(old, new, what):
    assert old in CHINESE_CODE
    changed = small_notebook(CHINESE_TEXT, CHINESE_CODE.replace(old, new), "4 个里的比例：0.75\n")
    found = notebook_differences(ENGLISH_NOTEBOOK, changed, ANCHORS)
    assert any(difference.startswith(f"code: {what}") for difference in found), found


def cell_is_lost(notebook):
    del notebook["cells"][0]


def cells_change_places(notebook):
    notebook["cells"].reverse()


def cell_has_another_id(notebook):
    notebook["cells"][0]["id"] = "other"


def cell_is_of_another_kind(notebook):
    notebook["cells"][0]["cell_type"] = "raw"


def tag_is_lost(notebook):
    notebook["cells"][1]["metadata"] = {}


def number_of_the_output_changes(notebook):
    notebook["cells"][1]["outputs"][0]["text"] = ["4 个里的比例：0.76\n"]


def output_is_lost(notebook):
    notebook["cells"][1]["outputs"] = []


def output_is_an_error(notebook):
    notebook["cells"][1]["outputs"][0] = {"output_type": "error", "ename": "E", "evalue": "0.75 4"}


def output_goes_elsewhere(notebook):
    notebook["cells"][1]["outputs"][0]["name"] = "stderr"


def figure_changes(notebook):
    notebook["cells"][1]["outputs"][1]["data"]["image/png"] = "aGVsbG8h"


def kernel_changes(notebook):
    notebook["metadata"]["kernelspec"]["name"] = "chinese"


CHANGES = [
    (cell_is_lost, "cells: only English ['text']"),
    (cells_change_places, "cells: "),
    (cell_has_another_id, "cells: only English ['text'], only Chinese ['other']"),
    (cell_is_of_another_kind, "text: kind of cell"),
    (tag_is_lost, "code: metadata"),
    (number_of_the_output_changes, "code: numbers of the output"),
    (output_is_lost, "code: kinds of output"),
    (output_is_an_error, "code: kinds of output"),
    (output_goes_elsewhere, "code: kinds of output"),
    (figure_changes, "code: the figure"),
    (kernel_changes, "metadata of the notebook"),
]


@pytest.mark.parametrize(("change", "what"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_a_changed_notebook_is_found(change, what):
    changed = copy.deepcopy(CHINESE_NOTEBOOK)
    change(changed)
    found = notebook_differences(ENGLISH_NOTEBOOK, changed, ANCHORS)
    assert any(difference.startswith(what) for difference in found), found


def test_an_example_of_its_own_may_differ_and_nothing_else():
    changed = copy.deepcopy(CHINESE_NOTEBOOK)
    number_of_the_output_changes(changed)
    source = CHINESE_CODE.replace('name="toy"', 'name="玩具"')
    changed["cells"][1]["source"] = source.splitlines(True)
    assert notebook_differences(ENGLISH_NOTEBOOK, changed, ANCHORS, {"code"}) == []
    changed["cells"][1]["source"] = source.replace("k=4", "k=5").splitlines(True)
    assert notebook_differences(ENGLISH_NOTEBOOK, changed, ANCHORS, {"code"})


def test_the_numbers_of_a_cell_that_is_not_compared_may_differ():
    english, changed = (copy.deepcopy(notebook) for notebook in (ENGLISH_NOTEBOOK, CHINESE_NOTEBOOK))
    for notebook in (english, changed):
        notebook["cells"][1]["metadata"]["tags"] = ["nbval-ignore-output"]
    number_of_the_output_changes(changed)
    assert notebook_differences(english, changed, ANCHORS) == []
    output_is_lost(changed)
    assert notebook_differences(english, changed, ANCHORS)


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("14.3 billion parameters, 3.0 million", "143 亿个参数，300 万"),
        ("151,936 tokens of 2048", "2048 维的 151936 个词元"),
        ("14.3 or 2.7 billion", "143 亿还是 27 亿"),
        ("on 28 March 2024, 87 % of 24 GB", "2024 年 3 月 28 日，24 GB 的 87%"),
        ("`x[3]` holds 2^30 in bf16, see [1.2](a.md#1.2)", "bf16 的 `x[3]` 里有 2^30，见 [1.2](a.md#1.2)"),
        ("Qwen1.5-7B on an A100", "A100 上的 Qwen1.5-7B"),
    ],
)
def test_numbers_are_equal_in_both_languages(english, chinese):
    assert number_differences(english, chinese) == []


@pytest.mark.parametrize("chinese", ["143 亿", "143 万", "1.43 亿", "14", ""])
def test_other_numbers_are_not_equal(chinese):
    assert number_differences("1.43 billion", chinese)


def test_links_of_both_readmes_are_equal():
    english = "[a](notebooks/en/01_a.ipynb) [b](README.zh.md) [c](https://a.org/en/b)"
    chinese = "[a](notebooks/zh/01_a.ipynb) [b](README.md) [c](https://a.org/en/b)"
    assert link_targets(english, {}) == link_targets(chinese, {})


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("the first numbers:", True),
        ("of all of them", True),
        ("第一个 the first numbers", False),
        ("(batch, tokens, experts)", False),
        ("input_ids, attention_mask", False),
        ("weights:", False),
    ],
)
def test_english_sentences_are_known(text, is_one):
    assert is_english_sentence(text) == is_one


def test_a_page_is_compared_by_its_sections():
    english = "# A page\n\n## 1. Rent\n\nTwo cards, 24 GB.\n\n```bash\n# 5 cards\nls\n```\n"
    chinese = "# 一页\n\n## 1. 租用\n\n两张 24 GB 的卡。\n\n```bash\n# 五张卡\nls\n```\n"
    assert page_differences(english, chinese, {}) == []
    assert page_differences(english, chinese.replace("24", "48"), {}) == [
        "## 1. Rent: numbers: only English [24], only Chinese [48]"
    ]
    assert page_differences(english, chinese.replace("ls", "rm"), {})
    assert page_differences(english, chinese.replace("## 1. 租用\n", ""), {}) == ["sections: 2 / 1"]
