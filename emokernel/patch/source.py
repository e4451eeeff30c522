"""Rewriting a method so that chosen additions of its source go through a function instead.

Everything else stays as the author wrote it, and so do file names and line numbers in tracebacks.
A *point* is an addition (``a + b``, or ``name += b``), or a call of a function of the same module
that holds points of its own, such as ``dropout_add(x, residual)``. Points are numbered in the order
of the syntax tree; a key ``(3,)`` is the addition at point 3, ``(3, 0)`` the addition at point 0 of
the function called at point 3.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from types import CellType, CodeType, FunctionType

Key = tuple[int, ...]
# Called as (a, b) in the place of a + b; None leaves the addition as it is.
Replacement = Callable[[Key], Callable | None]

_PREFIX = "_emokernel_point_"
_DEEPEST = 2


def rewrite(function: FunctionType, replacement: Replacement) -> FunctionType | None:
    """``function`` with ``replacement(key)`` for its additions; None where nothing is replaced.

    None as well where there is no source to read.
    """
    return _rewrite(inspect.unwrap(function), replacement, ())


def _rewrite(function: FunctionType, replacement: Replacement, at: Key) -> FunctionType | None:
    tree = _read(function)
    if tree is None:
        return None
    points = _Points(function, replacement, at)
    tree = points.visit(ast.parse(tree).body[0])
    return _build(function, tree, points.found) if points.found else None


@cache
def _read(function: FunctionType) -> str | None:
    """The source of a plain function, from its own line number on; None if it cannot be read."""
    try:
        lines, start = inspect.getsourcelines(function)
        text = textwrap.dedent("".join(lines))
        parsed = ast.parse(text).body
    except (OSError, TypeError, SyntaxError):
        return None
    if len(parsed) != 1 or not isinstance(parsed[0], ast.FunctionDef):
        return None
    return "\n" * (start - 1) + text


class _Points(ast.NodeTransformer):
    """Replaces what is asked for, and collects the functions that stand there instead."""

    def __init__(self, function: FunctionType, replacement: Replacement, at: Key) -> None:
        self._function, self._replacement, self._at = function, replacement, at
        self._count = 0
        self.found: dict[str, Callable] = {}

    def _next(self) -> Key:
        self._count += 1
        return (*self._at, self._count - 1)

    def _name(self, key: Key, stands_in: Callable, like: ast.AST) -> ast.Name:
        name = f"{_PREFIX}{key[-1]}"
        self.found[name] = stands_in
        return ast.copy_location(ast.Name(name, ast.Load()), like)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Add):
            return node
        key = self._next()
        stands_in = self._replacement(key)
        if stands_in is None:
            return node
        call = ast.Call(self._name(key, stands_in, node), [node.left, node.right], [])
        return ast.copy_location(call, node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if not (isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name)):
            return node
        key = self._next()
        stands_in = self._replacement(key)
        if stands_in is None:
            return node
        left = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
        call = ast.Call(self._name(key, stands_in, node), [left, node.value], [])
        return ast.copy_location(ast.Assign([node.target], ast.copy_location(call, node)), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = self._function_of_the_module(node.func)
        if called is None or len(self._at) + 1 >= _DEEPEST:
            return node
        key = self._next()
        rewritten = _rewrite(called, self._replacement, key)
        if rewritten is not None:
            node.func = self._name(key, rewritten, node.func)
        return node

    def _function_of_the_module(self, called: ast.AST) -> FunctionType | None:
        if not isinstance(called, ast.Name):
            return None
        function = self._function.__globals__.get(called.id)
        if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
            return None
        # A decorator may give a function the name of another: the file of its code is its own.
        same = function.__code__.co_filename == self._function.__code__.co_filename
        return function if same else None


def _build(function: FunctionType, tree: ast.FunctionDef, given: dict[str, object]) -> FunctionType:
    """A function like ``function`` with the body of ``tree``, which also sees ``given``."""
    tree.decorator_list = []
    names = [*function.__code__.co_freevars, *given]
    outer = ast.FunctionDef(
        name="outer",
        args=ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, []),
        body=[tree],
        decorator_list=[],
    )
    if "type_params" in ast.FunctionDef._fields:
        outer.type_params = []
    module = ast.fix_missing_locations(ast.Module([outer], []))
    flags = function.__code__.co_flags & __future__.annotations.compiler_flag
    compiled = compile(
        module, function.__code__.co_filename, "exec", flags=flags, dont_inherit=True
    )
    code = _code_named(_code_named(compiled, "outer"), tree.name)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    cells |= {name: CellType(value) for name, value in given.items()}
    made = FunctionType(
        code,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells[name] for name in code.co_freevars),
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return made


def _code_named(code: CodeType, name: str) -> CodeType:
    return next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
