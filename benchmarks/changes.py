"""Mutants: small faults in code, found in its syntax tree and put into a process that runs it.

A mutant has one comparison, sign, constant, condition or result changed, or one statement left out. ``benchmarks.mutants``
shows them to the tests.
"""

from __future__ import annotations

import ast
import gc
import sys
import types
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,), ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.Mult,), ast.Pow: (ast.Mult,), ast.BitOr: (ast.BitAnd,),
    ast.BitAnd: (ast.BitOr,),
}  # fmt: skip
NAMES = {"min": "max", "any": "all", "amin": "amax", "argmin": "argmax", "floor": "ceil", "clamp_min": "clamp_max"}
NAMES |= {other: name for name, other in NAMES.items()}
#: Conditions that nothing else in the table changes.
PLAIN = (ast.Name, ast.Call, ast.Attribute, ast.NamedExpr)


@dataclass(frozen=True)
class Mutant:
    """One change."""

    file: str
    line: int
    change: str
    number: int
    """Which of the changes of its file it is."""
    inside: bool
    """Whether it is in the body of a function."""
    statement: int
    """Line on which its statement begins."""


class Changes(ast.NodeTransformer):
    """Finds every change of a file, and makes the one that is wanted."""

    def __init__(self, file: str, wanted: int = -1) -> None:
        self.file, self.wanted = file, wanted
        self.found: list[Mutant] = []
        self.depth = self.statement = 0

    def visit(self, node: ast.AST) -> Any:
        """The node, or what it is changed into."""
        outer, self.statement = self.statement, node.lineno if isinstance(node, ast.stmt) else self.statement
        for name, value in ast.iter_fields(node):
            if _says_nothing(node, name, value):
                continue
            inside = name == "body" and isinstance(node, ast.FunctionDef | ast.Lambda)
            self.depth += inside
            if isinstance(value, list):
                value[:] = [self.visit(v) if isinstance(v, ast.AST) else v for v in value]
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
            self.depth -= inside
        result = node
        for said, text in _changes(node):
            if len(self.found) == self.wanted:
                tree = ast.parse(text)
                new = tree.body[0] if isinstance(node, ast.stmt) else tree.body[0].value  # type: ignore[attr-defined]
                result = ast.fix_missing_locations(ast.copy_location(new, node))
            line: int = getattr(node, "lineno")  # noqa: B009
            self.found.append(Mutant(self.file, line, said, len(self.found), self.depth > 0, self.statement))
        self.statement = outer
        return result


def _says_nothing(node: ast.AST, name: str, value: object) -> bool:
    """Types, decorators, texts and messages."""
    if name in ("annotation", "returns", "decorator_list", "op", "ops", "ctx"):
        return True
    if isinstance(node, ast.JoinedStr | ast.Raise) or (isinstance(node, ast.keyword) and node.arg == "strict"):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    return isinstance(node, ast.Expr) and isinstance(value, ast.Constant)


def _changes(node: ast.AST) -> Iterator[tuple[str, str]]:  # noqa: PLR0912
    """What one node can be changed into: in words, and as code."""

    def other(name: str, new: object) -> tuple[str, str]:
        old, before = getattr(node, name), ast.unparse(node)
        setattr(node, name, new)
        after = ast.unparse(node)
        setattr(node, name, old)
        return f"{before.splitlines()[0]} -> {after.splitlines()[0]}", after

    match node:
        case ast.Compare():
            for op in SWAPS[type(node.ops[0])]:
                yield other("ops", [op(), *node.ops[1:]])
        case ast.BinOp() | ast.AugAssign() if type(node.op) in SWAPS:
            yield other("op", SWAPS[type(node.op)][0]())
        case ast.BoolOp():
            yield other("op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for i in range(len(node.values)):
                yield other("values", node.values[:i] + node.values[i + 1 :])
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield f"{ast.unparse(node)} -> {ast.unparse(node.operand)}", f"({ast.unparse(node.operand)})"
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if isinstance(test, PLAIN):
            yield other("test", ast.UnaryOp(ast.Not(), test))
        case ast.Constant(value=bool()):
            yield f"{node.value} -> {not node.value}", str(not node.value)
        case ast.Constant(value=int() as number):
            yield from ((f"{number} -> {new}", f"({new})") for new in (number + 1, number - 1))
        case ast.Constant(value=float() as number):
            yield f"{number} -> {number * 2 or 1.0}", str(number * 2 or 1.0)
        case ast.Attribute(attr=name) if name in NAMES:
            yield other("attr", NAMES[name])
        case ast.Name(id=name, ctx=ast.Load()) if name in NAMES:
            yield f"{name} -> {NAMES[name]}", NAMES[name]
        case ast.Return() if node.value is not None and ast.unparse(node.value) != "None":
            yield f"{ast.unparse(node).splitlines()[0]} -> return None", "return None"
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Continue() | ast.Break():
            yield f"{ast.unparse(node).splitlines()[0]} -> left out", "pass"


def mutants(file: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its code."""
    finder = Changes(file)
    finder.visit(ast.parse(Path(file).read_text(encoding="utf-8")))
    return finder.found


def functions_of(files: Collection[str]) -> dict[str, list[types.FunctionType]]:
    """The functions of this process that are written in these files."""
    found = defaultdict(list)
    gc.unfreeze()  # what is frozen is not listed
    for one in gc.get_objects():
        if type(one) is types.FunctionType and one.__code__.co_filename in files:
            found[one.__code__.co_filename].append(one)
    gc.freeze()
    return found


def put_in(mutant: Mutant, functions: Sequence[types.FunctionType]) -> None:
    """Give the functions of this process the changed code, and modules and classes the changed values."""
    tree = Changes(mutant.file, mutant.number).visit(ast.parse(Path(mutant.file).read_text(encoding="utf-8")))
    code = compile(tree, mutant.file, "exec")
    new = {(c.co_qualname, c.co_firstlineno): c for c in _codes(code)}
    for function in functions:
        old = function.__code__
        function.__code__ = new.get((old.co_qualname, old.co_firstlineno), old)
    if mutant.inside:
        return
    module = next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == mutant.file)
    fresh = types.ModuleType(module.__name__)
    fresh.__dict__.update(__file__=mutant.file, __package__=module.__package__)
    exec(code, fresh.__dict__)
    for name, value in vars(fresh).items():
        known = vars(module).get(name)
        if isinstance(value, type) and value.__module__ == module.__name__:
            for key, part in vars(value).items():
                if isinstance(part, types.FunctionType):
                    _defaults(vars(known)[key], part)
                elif not key.startswith("__") and repr(part) != repr(vars(known).get(key)):
                    setattr(known, key, part)
        elif isinstance(value, types.FunctionType):
            _defaults(known, value)
        elif not name.startswith("__") and repr(value) != repr(known):
            for other in list(sys.modules.values()):
                if getattr(other, "__dict__", {}).get(name) is known:
                    setattr(other, name, value)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


def _defaults(old: Any, new: types.FunctionType) -> None:
    if isinstance(old, types.FunctionType):
        old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
