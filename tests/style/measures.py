"""How plainly is the code written? Measures with a limit each, after DESIGN's chapter on code.

    python tests/style/measures.py [helpers tests]

A learner reads this code. So one statement stands in a line, a condition in an `if`, and a function fits on a
screen. Two measures are rates, because a few of them do no harm; the others are faults, each with its place.
"""

import argparse
import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_LINES = 45
FUNCTION_BRANCHES = 10
CLASS_LINES = 120
LINE_TOKENS = 18
# Libraries that take a second or more to import, so that a function may import them when it is called.
HEAVY = {
    "torch", "transformers", "accelerate", "modelscope", "modelscope_hub", "pandas", "matplotlib", "IPython",
    "ipywidgets", "tokenizers", "safetensors", "numpy", "tqdm", "requests", "flash_attn", "playwright",
    "jupyterlab", "jupyter_server", "babel", "openai",
}  # fmt: skip
# Documented names: the methods of a NamedTuple, what IPython asks an object for, an unused value.
PUBLIC_IN_SPITE = {"_replace", "_asdict", "_fields", "_repr_mimebundle_", "_"}
BRANCHES = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.match_case)
LAYOUT = {
    tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


@dataclass
class Measures:
    """What was counted in some files, and the faults that were found in them."""

    lines: int = 0
    code_lines: int = 0
    long_lines: int = 0  # of more than LINE_TOKENS tokens
    tuple_assignments: int = 0
    conditional_expressions: int = 0
    faults: list[str] = field(default_factory=list)

    def per_1000(self, count: int) -> float:
        return 1000 * count / max(1, self.lines)

    def short_lines(self) -> float:
        """Share of the lines of code that have at most LINE_TOKENS tokens."""
        return 1 - self.long_lines / max(1, self.code_lines)


class Source:
    """One file: its text, its syntax tree, and the parent of each node."""

    def __init__(self, name: str, text: str):
        self.name = name
        self.lines = text.splitlines()
        self.text = text
        self.tree = ast.parse(text)
        self.parents = {}
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node

    def place(self, node: ast.AST) -> str:
        return f"{self.name}:{node.lineno}"

    def package(self) -> str:
        """`helpers.routing` for a file in helpers/routing/, `helpers` for one beside the packages."""
        return ".".join(Path(self.name).parts[:-1])

    def is_in_function(self, node: ast.AST) -> bool:
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, ast.FunctionDef):
                return True
        return False


def tokens_per_line(text: str) -> Counter:
    """Number of each line of code -> how many tokens start in it."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(token.start[0] for token in tokens if token.type not in LAYOUT)


def is_tuple_assignment(node: ast.AST) -> bool:
    """`a, b = 1, 2`: two statements in one line. Swapping (`a, b = b, a`) and unpacking a result are fine."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    targets = [target for target in node.targets if isinstance(target, ast.Tuple)]
    for target in targets:
        left = sorted(ast.unparse(part) for part in target.elts)
        right = sorted(ast.unparse(part) for part in node.value.elts)
        if left != right:
            return True
    return False


def is_negative_floor_division(node: ast.AST) -> bool:
    """`-(-n // b)`, which rounds up where a function `round_up` would say so."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.FloorDiv)
        and isinstance(node.left, ast.UnaryOp)
        and isinstance(node.left.op, ast.USub)
    )


def is_truth_value(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "bool"
    return isinstance(node, ast.Compare)


def is_boolean_arithmetic(node: ast.AST) -> bool:
    """`text * (count > 0)`, where an `if` would say what is meant."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult | ast.Add):
        return False
    constants = (isinstance(node.left, ast.Constant), isinstance(node.right, ast.Constant))
    masks = isinstance(node.op, ast.Mult) and not any(constants)
    # A product of two variables may be an array with its mask; a constant with a comparison is not.
    return not masks and (is_truth_value(node.left) or is_truth_value(node.right))


def is_stray_walrus(node: ast.AST, source: Source) -> bool:
    """A walrus that is not part of the condition of an `if` or a `while`."""
    if not isinstance(node, ast.NamedExpr):
        return False
    child = node
    while child in source.parents and not isinstance(child, ast.stmt):
        parent = source.parents[child]
        if isinstance(parent, ast.If | ast.While) and child is parent.test:
            return False
        child = parent
    return True


def is_condition_in_a_call(node: ast.AST, source: Source) -> bool:
    return isinstance(node, ast.IfExp) and isinstance(source.parents.get(node), ast.Call | ast.keyword)


def size_faults(node: ast.AST) -> Iterator[str]:
    """Functions and classes that do not fit on a screen, or in a head."""
    if isinstance(node, ast.FunctionDef):
        length = node.end_lineno - node.lineno + 1
        branches = sum(isinstance(part, BRANCHES) for part in ast.walk(node))
        if length > FUNCTION_LINES:
            yield f"function {node.name} has {length} lines"
        if branches > FUNCTION_BRANCHES:
            yield f"function {node.name} has {branches} branches"
    if isinstance(node, ast.ClassDef):
        length = node.end_lineno - node.lineno + 1
        if length > CLASS_LINES:
            yield f"class {node.name} has {length} lines"


def imported_modules(node: ast.AST) -> list[str]:
    """Modules that an import statement names; empty for every other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module]
    return []


def is_late_import_without_reason(node: ast.AST, source: Source) -> bool:
    """An import inside a function: only of a heavy library, or what imports one, with a comment beside it."""
    modules = imported_modules(node)
    if not modules or not source.is_in_function(node):
        return False
    allowed = HEAVY | {"helpers"}
    if any(module.split(".")[0] not in allowed for module in modules):
        return True
    lines = source.lines[max(0, node.lineno - 4) : node.end_lineno]
    return not any("#" in line for line in lines) and not has_reason_above(node, source)


def has_reason_above(node: ast.AST, source: Source) -> bool:
    """A module may give the reason once, in its docstring, for all of its functions."""
    docstring = ast.get_docstring(source.tree) or ""
    return "import" in docstring


def private_names_of_others(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Names with one leading underscore that are imported from, or looked up in, somebody else's code."""
    own = {node.name for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            for name in names:
                if is_private(name) and not (node.module or "").startswith(source.package()):
                    yield node, name
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            yield node, node.attr


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC_IN_SPITE


def measure(sources: list[Source], private_names: bool = True) -> Measures:
    """Measure some files together. `private_names`: also look for private names of other packages."""
    found = Measures()
    for source in sources:
        found.lines += len(source.lines)
        counts = tokens_per_line(source.text)
        found.code_lines += len(counts)
        found.long_lines += sum(count > LINE_TOKENS for count in counts.values())
        for node in ast.walk(source.tree):
            measure_node(node, source, found)
        if private_names and Path(source.name).name != "compat.py":
            for node, name in private_names_of_others(source):
                found.faults.append(f"{source.place(node)}: private name {name} of other code")
    return found


def measure_node(node: ast.AST, source: Source, found: Measures) -> None:
    if is_tuple_assignment(node):
        found.tuple_assignments += 1
    if isinstance(node, ast.IfExp):
        found.conditional_expressions += 1
    if is_condition_in_a_call(node, source):
        found.faults.append(f"{source.place(node)}: conditional expression inside a call")
    if is_stray_walrus(node, source):
        found.faults.append(f"{source.place(node)}: walrus outside the condition of an if or while")
    if is_negative_floor_division(node):
        found.faults.append(f"{source.place(node)}: negative floor division")
    if is_boolean_arithmetic(node):
        found.faults.append(f"{source.place(node)}: arithmetic with booleans")
    if is_late_import_without_reason(node, source):
        found.faults.append(f"{source.place(node)}: late import of a light module, or without a reason")
    for fault in size_faults(node):
        found.faults.append(f"{source.place(node)}: {fault}")


def import_cycles(sources: list[Source]) -> list[str]:
    """Packages of helpers that import each other when they are loaded, as "a <-> b"."""
    uses: dict[str, set[str]] = {}
    for source in sources:
        own = top_package([*source.package().split("."), Path(source.name).stem])
        for node in ast.walk(source.tree):
            if source.is_in_function(node):
                continue
            for module in imported_modules(node):
                other = top_package(module.split("."))
                if module.startswith("helpers.") and other != own:
                    uses.setdefault(own, set()).add(other)
    reachable = {start: reach(start, uses) for start in uses}
    pairs = [(a, b) for a in reachable for b in reachable if a < b]
    return [f"{a} <-> {b}" for a, b in pairs if b in reachable[a] and a in reachable[b]]


def top_package(parts: list[str]) -> str:
    """`helpers.routing` for every module of that package."""
    return ".".join(parts[:2])


def reach(start: str, uses: dict[str, set[str]]) -> set[str]:
    """Everything that `start` imports, directly or by way of others."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for other in uses.get(waiting.pop(), set()) - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def read_sources(folder: str) -> list[Source]:
    """All Python files below a folder of the course."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return [Source(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")) for file in files]


def main() -> None:
    parser = argparse.ArgumentParser(description="How plainly is the code written?")
    parser.add_argument("folders", nargs="*", default=["helpers", "tests"])
    for folder in parser.parse_args().folders:
        found = measure(read_sources(folder), private_names=folder == "helpers")
        print(f"{folder}: {found.lines:,} lines, {len(found.faults)} faults; per 1,000 lines:")
        print(f"  {found.per_1000(found.tuple_assignments):5.1f} tuple assignments")
        print(f"  {found.per_1000(found.conditional_expressions):5.1f} conditional expressions")
        print(f"  {found.short_lines():5.1%} of the lines have at most {LINE_TOKENS} tokens")
        for fault in found.faults:
            print("  " + fault)


if __name__ == "__main__":
    main()
