"""The code of a cell without what is written for the reader, so that two editions can be compared.

For the reader are comments, docstrings, what is printed, what an error says, the labels of widgets, and
keys of a dictionary such as "routed experts", the rows of a table. All other strings are code: keys without
spaces, prompts, names of files, labels of figures (English in both editions).
"""

import ast
import io
import re
import tokenize

#: Functions whose texts are read; `note` prints from a thread in notebook 05.
READ_CALLS = {"print", "note"}
#: Options of widgets and of progress bars whose texts are read.
READ_OPTIONS = {"description", "tooltip", "placeholder", "desc"}
CHINESE_CHARACTER = re.compile(r"[\u3400-\u9fff]")
CODE_KEY = re.compile(r"[!-~]*")
#: That many plain English words in a row of text make it a sentence, which has to be translated.
SENTENCE = 3


def split_magics(source: str) -> tuple[str, list[str]]:
    """Python that `ast` can read, and the lines for IPython or the shell, which begin with % or !."""
    python = []
    magics = []
    for line in source.splitlines():
        bare = line.lstrip()
        if bare.startswith(("%", "!")):
            magics.append(bare)
            python.append(line[: len(line) - len(bare)] + "pass")
        else:
            python.append(line)
    return "\n".join(python), magics


def is_code(key: ast.expr | None) -> bool:
    """Whether a key of a dictionary is one for the program; with a space or in Chinese it is a label."""
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        return CODE_KEY.fullmatch(key.value) is not None
    return True


class TextTaker(ast.NodeTransformer):
    """Empties the texts for the reader in a syntax tree, and keeps them in `taken`."""

    def __init__(self):
        self.taken: list[str] = []

    def visit_Call(self, node: ast.Call) -> ast.Call:
        if isinstance(node.func, ast.Name) and node.func.id in READ_CALLS:
            node.args = [self.without_text(argument) for argument in node.args]
        for option in node.keywords:
            if option.arg in READ_OPTIONS:
                option.value = self.without_text(option.value)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [self.without_text(argument) for argument in node.exc.args]
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        if node.msg is not None:
            node.msg = self.without_text(node.msg)
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.Dict:
        node.keys = [key if is_code(key) else ast.Constant("") for key in node.keys]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.take_docstring(node)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.take_docstring(node)
        return self.generic_visit(node)

    def take_docstring(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        if ast.get_docstring(node) is not None:
            node.body[0].value = self.without_text(node.body[0].value)

    def without_text(self, node: ast.expr) -> ast.expr:
        """`node` with its texts emptied. The fields of an f-string stay, in any order."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self.taken.append(node.value)
            return ast.Constant("")
        if isinstance(node, ast.JoinedStr):
            fields = []
            for part in node.values:
                if isinstance(part, ast.Constant):
                    self.taken.append(part.value)
                else:
                    fields.append(part)
            return ast.JoinedStr(sorted(fields, key=ast.dump))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return ast.BinOp(self.without_text(node.left), node.op, self.without_text(node.right))
        if isinstance(node, ast.IfExp):
            return ast.IfExp(node.test, self.without_text(node.body), self.without_text(node.orelse))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node.func.value = self.without_text(node.func.value)  # "…".join(…), "…".format(…)
        return node


def code_without_text(source: str, own_example: bool = False) -> tuple[str, list[str], list[str]]:
    """What must be equal in both editions (syntax tree, magic lines), and the texts that were left out.

    Of an example that differs on purpose every other string is emptied as well.
    """
    python, magics = split_magics(source)
    taker = TextTaker()
    tree = taker.visit(ast.parse(python))
    for node in ast.walk(tree):
        if own_example and isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree), magics, taker.taken


def comments(source: str) -> list[str]:
    """The comments of a cell, without the sign."""
    python, _magics = split_magics(source)
    tokens = tokenize.generate_tokens(io.StringIO(python + "\n").readline)
    return [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]


def is_english_sentence(text: str) -> bool:
    """Whether a text is one that ought to be Chinese: plain English words, beside names and shapes."""
    if CHINESE_CHARACTER.search(text):
        return False
    plain = re.sub(r"\([^)]*\)|`[^`]*`|https?://\S+", " ", text)  # shapes, code, addresses
    words = re.findall(r"(?<![\w./-])[A-Za-z]?[a-z]{2,}(?![\w/(=-]|\.\w)", plain)
    return len(words) >= SENTENCE


def code_differences(english: str, chinese: str, own_example: bool = False) -> list[str]:
    """What differs between the code of two cells, apart from what is for the reader."""
    found = []
    try:
        tree, magics, _texts = code_without_text(english, own_example)
        chinese_tree, chinese_magics, chinese_texts = code_without_text(chinese, own_example)
    except SyntaxError as error:
        return [f"code cannot be read: {error}"]
    if tree != chinese_tree:
        found.append(f"code: {first_difference(tree, chinese_tree)}")
    if magics != chinese_magics:
        found.append(f"magic lines: {magics} / {chinese_magics}")
    chinese_comments = comments(chinese)
    if bool(comments(english)) != bool(chinese_comments):
        found.append("comments: only one edition has them")
    for text in [*chinese_texts, *chinese_comments]:
        if is_english_sentence(text):
            found.append(f"not translated: {text!r}")
    return found


def first_difference(left: str, right: str) -> str:
    """The place at which two texts part, with what stands around it."""
    place = 0
    while place < min(len(left), len(right)) and left[place] == right[place]:
        place += 1
    start = max(0, place - 60)
    return f"…{left[start : place + 60]}… / …{right[start : place + 60]}…"
