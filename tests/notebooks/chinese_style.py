"""A lint for Chinese text: typography, terms, and Markdown that does not work beside Chinese characters.

It reads prose only: of a Markdown text what is not code, of code the comments and the texts with Chinese in
them, of a catalogue the sentences. autocorrect-py 2.14 was tried beside it, with the samples of the test: it
misses more than half of the bad ones (terms, bold text, code spans, units), and finds none that these rules
miss; so it is not a dependency of the course.
"""

import ast
import io
import json
import re
import string
import tokenize
import unicodedata
from pathlib import Path

from edition_code import CHINESE_CHARACTER, split_magics
from edition_prose import CODE_SPAN, without_fences

C = r"[\u3400-\u9fff]"
CODE = "\ue000"  # stands for a code span: written like a Latin word
FIELD = "\ue001"  # stands for a field of which nobody knows what will be in it
LATIN = rf"[A-Za-z0-9$%°{CODE}]"

TYPOGRAPHY = {
    rf"{C}[,;:!?]|[,;!?] ?(?={C})|(?<!\d):(?={C})": "half-width punctuation beside Chinese: ，；：！？",
    rf"{C}\.(?=\s|$)": "half-width full stop: 。",
    rf"{C}\(|\){C}": "half-width bracket beside Chinese: （）",
    rf"{C}[A-Za-z0-9${CODE}]|{LATIN}{C}": "a space between Chinese and Latin letters, digits, code",
    r"(?<=[^\s|]) [，。；：？！、）”》（“《]": "no space beside full-width punctuation, before it",
    r"[，。；：？！、（“《）”》] (?=[^\s|])": "no space beside full-width punctuation, after it",
    rf"[\"'](?={C})|(?<={C})[\"']": "straight quotes: “ ”",
    r"\d (?:%|％)": "no space before %: 90%",
    r"\d(?:[KMGT]i?B)\b": "a space between number and unit: 24 GB",
    rf"{C}\.\.\.|\.\.\.{C}|。。|{C}…(?!…)|(?<!…)…{C}": "an ellipsis is ……",
    r"[０-９Ａ-Ｚａ-ｚ]": "full-width letters or digits",
    r"[，。；：？！、]{2,}": "two signs in a row",
    rf"{C}[^\S\n]*\n[^\S\n]*(?={C})": "a line ends between two Chinese characters: shown as a blank",
    rf"(?<![*A-Za-z0-9])\*(?![*\s])[^*\n]*{C}[^*\n]*(?<!\*)\*(?!\*)": "Chinese has no italics: bold, or “ ”",
}
TERMS = {
    r"令牌|标记符|代币": "token is 词元",
    r"内嵌": "the embedded model is 内置模型",
    r"您": "the reader is 你",
    r"路由网络|门控网络": "router is 路由器",
    r"笔记本(?!电脑)": "notebook stays notebook",
    r"显卡内存|显示内存|GPU 内存": "VRAM is 显存",
    r"提示语": "prompt is 提示词",
    r"隐状态|隐含状态": "hidden state is 隐藏状态",
    r"批量大小|批大小": "batch is 批次",
    r"聊天模板|会话模板": "chat template is 对话模板",
    r"设备图|设备地图": "device map is 设备映射",
    r"注意力遮罩|注意力掩膜": "attention mask is 注意力掩码",
    r"专家混合": "mixture of experts is 混合专家模型",
    r"预填(?!充)": "prefill is 预填充",
    r"贪婪": "greedy is 贪心",
    r"取样": "sampling is 采样",
    r"(?:张量|专家)平行": "parallel is 并行",
    r"(?<!模)块(?= ?(?:GPU|卡|显卡|RTX|\d+ Gi?B))": "a card is counted in 张",
    r"(?<!第 )(?<![\d.])\d+\.\d+ 节": "a section is 第 2.2 节",
}
#: English words that have a Chinese one. In brackets behind it, in quotes or in code they may stand.
ENGLISH_WORDS = {
    "tokens?": "词元",
    "prompts?": "提示词",
    "routers?": "路由器",
    "experts?": "专家",
    "batch": "批次",
    "prefill": "预填充",
    "KV cache": "KV 缓存",
    "hidden states?": "隐藏状态",
}


def excerpt(text: str, start: int, end: int) -> str:
    around = text[max(0, start - 8) : end + 8]
    return around.replace(CODE, "`…`").replace(FIELD, "{…}").replace("\n", "⏎")


def findings(text: str) -> list[str]:
    """What is wrong with a Chinese text without markup: rule and place."""
    found = []
    for rules in (TYPOGRAPHY, TERMS):
        for pattern, rule in rules.items():
            for match in re.finditer(pattern, text):
                found.append(f"{rule}: {excerpt(text, *match.span())}")
    for line in text.splitlines():
        if CHINESE_CHARACTER.search(line):
            found += english_words(line)
    return found


def english_words(line: str) -> list[str]:
    """English terms in a Chinese line that have a Chinese word."""
    # The English term behind the Chinese one, a quotation, a shape such as (batch, tokens).
    bare = re.sub(r"（[^（）]*）|“[^”]*”|\([^(),]*,[^()]*\)", "", line)
    found = []
    for word, chinese in ENGLISH_WORDS.items():
        match = re.search(rf"(?<![\w./-]){word}(?![\w/.(=-])", bare)
        if match:
            found.append(f"{match[0]} is {chinese}: {excerpt(bare, *match.span())}")
    return found


def is_open(character: str) -> bool:
    """Whether this is no letter: blank, end of the text, punctuation."""
    return not character or character.isspace() or unicodedata.category(character)[0] in "PS"


def bold_findings(text: str) -> list[str]:
    """Stars that Markdown would show, because a letter touches them outside and punctuation inside."""
    found = []
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) )", text):
        for number, match in enumerate(re.finditer(r"\*\*", paragraph)):
            before = paragraph[: match.start()][-1:]
            after = paragraph[match.end() :][:1]
            outside, inside = before, after
            if number % 2 == 1:
                outside, inside = after, before
            if is_open(inside) and not is_open(outside):
                found.append(
                    f"punctuation inside bold, a letter outside: {excerpt(paragraph, *match.span())}"
                )
    return found


def markdown_findings(text: str) -> list[str]:
    """What is wrong with a Markdown text."""
    text = without_fences(text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    found = bold_findings(CODE_SPAN.sub("`", text))
    text = CODE_SPAN.sub(CODE, text)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", CODE, text, flags=re.DOTALL)
    for description in re.findall(r'alt="([^"]*)"', text):
        found += findings(description)
    text = re.sub(r"<(?!https?:)[^>\u3400-\u9fff]+>|<img[^>]*>", "", text)
    text = re.sub(r"\]\([^)\s]*\)", "]", text)
    text = re.sub(r"<?https?://[^\s)）>，。；]+>?", CODE, text)
    text = re.sub(
        r"(?m)^[ \t]*(?:[-*]|\d+\.|#+(?: [\d.]+)?|>) ", "", text
    )  # signs of lists, headings, quotations
    text = re.sub(r"\*\*|!?\[|\]", "", text)
    return found + findings(text)


def with_fields_filled(sentence: str) -> str:
    """A sentence of a catalogue: a field with a format holds a number, of another one nothing is known."""
    parts = []
    for text, name, form, _conversion in string.Formatter().parse(sentence):
        parts.append(text)
        if name is not None and form:
            parts.append("0")
        elif name is not None:
            parts.append(FIELD)
    return "".join(parts)


def catalogue_findings(catalogue: dict[str, str]) -> list[str]:
    """What is wrong with the Chinese sentences of a catalogue."""
    found = []
    for english, chinese in catalogue.items():
        for size in re.findall(r"\b\d+[KMGT]i?B\b", english):
            chinese = chinese.replace(size, CODE)  # what one has to type, such as 24GiB
        sentence = CODE_SPAN.sub(CODE, with_fields_filled(chinese))
        found += findings(re.sub(r"https?://[^\s)），。；]+", CODE, sentence))
    return found


def texts_of_code(source: str) -> list[str]:
    """Comments and strings of a code cell that have Chinese in them; fields of f-strings are filled."""
    python, _magics = split_magics(source)
    texts = []
    for token in tokenize.generate_tokens(io.StringIO(python + "\n").readline):
        if token.type == tokenize.COMMENT:
            texts.append(token.string.lstrip("# "))
    inside_f_strings = set()
    for node in ast.walk(ast.parse(python)):
        if isinstance(node, ast.JoinedStr):
            inside_f_strings |= {id(part) for part in node.values}
            texts.append("".join(filled(part) for part in node.values))
        elif isinstance(node, ast.Constant) and id(node) not in inside_f_strings:
            texts.append(str(node.value))
    return [CODE_SPAN.sub(CODE, text) for text in texts if CHINESE_CHARACTER.search(text)]


def filled(part: ast.expr) -> str:
    """A part of an f-string as in `with_fields_filled`."""
    if isinstance(part, ast.Constant):
        return part.value
    return "0" if part.format_spec else FIELD


def file_findings(path: Path) -> list[str]:
    """What is wrong in a notebook, page or catalogue."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return markdown_findings(text)
    if path.name == "zh.json":
        return catalogue_findings(json.loads(text))
    found = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            problems = markdown_findings(source)
        else:
            problems = [problem for said in texts_of_code(source) for problem in findings(said)]
        found += [f"{cell['id']}: {problem}" for problem in problems]
    return found
