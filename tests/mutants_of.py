"""Mutants of a module: the same text with one thing in it taken out, or turned round.

What is mutated is what keeps data safe: each sync, each lock, each comparison, each operand of ``and`` and ``or``, each
early way out. A mutant is a piece of the text replaced, so that lines stay where they are.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

SYNC = re.compile(r"fsync|fdatasync|sync|sync_directory|settle|_make_durable|_fdatasync|until_recorded")
LOCK = re.compile(r"lock\b|\bhold\(|held|at_rest|becoming_other|verb\(")
TURNED: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
WAYS_OUT = (ast.Return, ast.Continue, ast.Break, ast.Raise)


@dataclass(frozen=True)
class Mutant:
    """``line`` to ``last`` change, ``where`` is the function, and ``nth`` counts equal changes in it, so that a
    mutant is known again when lines moved.
    """

    path: str
    line: int
    last: int
    where: str
    before: str
    after: str
    nth: int
    text: str
    """The whole module."""

    @property
    def name(self) -> str:
        again = f" #{self.nth}" if self.nth > 1 else ""
        return f"{self.path} {self.where}: {self.before} -> {self.after}{again}"


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Return the mutants of a module, in the order of its lines."""
    found: list[Mutant] = []
    seen: dict[tuple[str, str, str], int] = {}
    text = source.encode()
    starts = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
    for where, node, after in sorted(_changes(ast.parse(source), ""), key=lambda c: (c[1].lineno, c[1].col_offset)):
        assert node.end_lineno is not None and node.end_col_offset is not None, "parsed from a text"
        start, stop = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        before = " ".join(text[start:stop].decode().split())
        nth = seen[where, before, after] = seen.get((where, before, after), 0) + 1
        changed = (text[:start] + after.encode() + text[stop:]).decode()
        found.append(Mutant(path, node.lineno, node.end_lineno, where, before, after, nth, changed))
    return found


def _changes(node: ast.AST, where: str) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """(function, what is replaced, by what) in a node and below it; nothing in assertions, which are no behaviour."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Assert) or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            continue
        named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        inside = f"{where}.{child.name}".lstrip(".") if named else where
        yield from ((inside or "module", what, after) for what, after in _of(child))
        yield from _changes(child, inside)


def _of(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    if isinstance(node, ast.Expr) and (name := _called(node.value)) and SYNC.fullmatch(name):
        yield node, "pass"
    elif isinstance(node, ast.Call):
        for argument in node.args:
            if isinstance(argument, ast.Attribute) and argument.attr in ("fdatasync", "fsync"):
                yield argument, "(lambda: None)"
    elif isinstance(node, ast.Attribute) and node.attr in ("O_DSYNC", "O_DIRECT", "O_EXCL", "O_NOFOLLOW"):
        yield node, "0"
    elif isinstance(node, ast.AsyncWith | ast.With):
        empty = "AsyncExitStack" if isinstance(node, ast.AsyncWith) else "ExitStack"
        for item in node.items:
            if item.optional_vars is None and LOCK.search(ast.unparse(item.context_expr)):
                yield item.context_expr, f"__import__('contextlib').{empty}()"
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield node, f"({ast.unparse(node.left)} {TURNED[type(node.ops[0])]} {ast.unparse(node.comparators[0])})"
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield value, "False" if isinstance(node.op, ast.Or) else "True"
    elif isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], WAYS_OUT):
        yield node.test, "False"


def _called(value: ast.expr) -> str:
    call = value.value if isinstance(value, ast.Await) else value
    if not isinstance(call, ast.Call):
        return ""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
