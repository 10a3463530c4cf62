"""Chinese text of notebooks, pages and messages keeps to the rules; and each rule finds a bad sample."""

import json

import pytest
from chinese_style import catalogue_findings, file_findings, findings, markdown_findings, texts_of_code
from edition_files import CHINESE, ROOT

FILES = [
    *CHINESE.glob("*.ipynb"),
    *CHINESE.glob("*.md"),
    *ROOT.glob("*.zh.md"),
    *ROOT.glob("helpers/**/*.zh.md"),
]
FILES += ROOT.glob("helpers/**/zh.json")
# The card itself is read, not the text with fields from which it is made.
FILES = sorted(file for file in FILES if file.name != "card.zh.md")


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_the_chinese_text_keeps_to_the_rules(file):
    found = file_findings(file)
    assert not found, "\n".join(found)


GOOD = [
    "模型有 143 亿参数，用 bf16 保存要占 26.67 GiB。",
    "先看 `config.json`：里面写着 60 个专家。",
    "[**路由器**](glossary.md#路由器router)给每个专家打分，选出 4 个（top-4）。",
    "**先预测**：一个专家有多少参数？占 87% 吗？",
    "形状是 (10, 20)，见 [README](../../README.md) 和 <https://www.autodl.com>。",
    "词元（token）是模型读写的单位……每秒 9 tokens/s。",
    "运行下面的命令：\n\n```bash\npip install,中文(x)\n```\n\n然后等一等。",
    "| 卡 | 大小 |\n|---|---|\n| A100 | 80 GB，够用。 |",
    "- **显存**：24 GB\n- **费用**：不花钱",
    "有两个办法：你可以\n\n- 再试一次；\n- 换一台。",
    "掩码的形状不是 (batch, tokens)。",
    "### 2.2 “性能媲美 7B”",
    "对齐的两行：   12 元",
    "公式 $a,b$ 里的“top-k”是 4。",
    "标签里的“expert”指专家。",
    "两张 24 GB 的卡、模块 GPU 版，见第 2.2 节和第 3 节，共 3 节。",
    '<img src="../../images/moe.svg" alt="一层：4 个专家" width="480">',
]


@pytest.mark.parametrize("text", GOOD)
def test_good_text_passes(text):
    assert markdown_findings(text) == []


BAD = [
    ("模型很大,要占显存。", "half-width punctuation"),
    ("怎么办?", "half-width punctuation"),
    ("注意:先安装。", "half-width punctuation"),
    ("bf16,中文", "half-width punctuation"),
    ("英文 0.045, 中文 0.060", "half-width punctuation"),
    ("这样就行.", "half-width full stop"),
    ("专家(expert)有 60 个。", "half-width bracket"),
    ("共有60个专家。", "a space between"),
    ("用bf16保存。", "a space between"),
    ("看`config.json`里的数。", "a space between"),
    ("占 87%的参数。", "a space between"),
    ("见[README](../../README.md)。", "a space between"),
    ("先安装 ，再运行。", "before it"),
    ("先安装， 再运行。", "after it"),
    ("（ 见上）", "after it"),
    ("这是 “专家” 的意思。", "before it"),
    ('所谓"专家"很小。', "straight quotes"),
    ("占 87 % 的参数。", "no space before %"),
    ("一张 24GB 的卡。", "number and unit"),
    ("等一等...就好。", "an ellipsis"),
    ("正在加载…", "an ellipsis"),
    ("共 ６０ 个。", "full-width letters"),
    ("好了。，继续。", "two signs"),
    ("这一行在这里\n断开了。", "a line ends between"),
    ("这很*重要*。", "no italics"),
    ("**先预测，再运行：**一个专家有多大？", "punctuation inside bold"),
    ("这是**“专家”**的意思。", "punctuation inside bold"),
    ("**[路由器](a.md)**给每个专家打分。", "punctuation inside bold"),
    ("模型读令牌。", "词元"),
    ("请您运行。", "你"),
    ("由门控网络决定。", "路由器"),
    ("打开笔记本。", "notebook"),
    ("显卡内存不够。", "显存"),
    ("输入提示语。", "提示词"),
    ("聊天模板。", "对话模板"),
    ("贪婪解码。", "贪心"),
    ("租两块 GPU。", "张"),
    ("一块 24 GB 的卡。", "张"),
    ("见 2.2 节。", "第 2.2 节"),
    ("一个 token 对应一行。", "词元"),
    ("把 prompt 变短。", "提示词"),
    ("由 router 决定。", "路由器"),
    ('<img src="a.svg" alt="共4个专家">', "a space between"),
]


@pytest.mark.parametrize(("text", "rule"), BAD)
def test_bad_text_is_found(text, rule):
    assert any(rule in problem for problem in markdown_findings(text)), markdown_findings(text)


@pytest.mark.parametrize(
    ("sentence", "is_good"),
    [
        ("{name} 需要 {needed:.1f} GiB，空闲 {free:.1f} GiB。", True),
        ("还没有：{reason}", True),
        ("{name}需要更多显存。", True),
        ("需要 {needed:.1f}GiB。", False),
        ("共{count:,}个文件。", False),
        ("见 https://www.autodl.com/docs，或 `python -m helpers.vram`。", True),
        ("用`python -m helpers.vram`。", False),
    ],
)
def test_sentences_of_a_catalogue_are_read_with_their_fields(sentence, is_good):
    assert (catalogue_findings({"English": sentence}) == []) == is_good


def test_what_one_types_stays_as_it_is():
    assert catalogue_findings({"sizes, such as 24GiB": "大小，如 24GiB"}) == []
    assert catalogue_findings({"sizes": "大小，如 24GiB"})


def test_code_is_read_for_its_comments_and_texts():
    source = '%matplotlib inline\nx = "key,中文"  # 注释1\nprint(f"共{x}个，占 {x:.1f}个")'
    assert texts_of_code(source)[0] == "注释1"
    problems = [problem for text in texts_of_code(source) for problem in findings(text)]
    assert len(problems) == 3, problems


def test_a_file_with_a_fault_is_found(tmp_path):
    notebook = tmp_path / "01_a.ipynb"
    cells = [
        {"id": "good", "cell_type": "markdown", "source": ["一个专家。"]},
        {"id": "bad", "cell_type": "markdown", "source": ["一个专家,"]},
        {"id": "code", "cell_type": "code", "source": ["x = 1  # 专家(expert)"]},
    ]
    notebook.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert [problem.split(":")[0] for problem in file_findings(notebook)] == ["bad", "code", "code"]
