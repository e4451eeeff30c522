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
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import CellType, CodeType, FunctionType
from typing import Any

from torch import nn

from emokernel.replaced import ReplacedMethod, forward_name

Key = tuple[int, ...]
# Called as (a, b) in the place of a + b; None leaves the addition as it is.
Replacement = Callable[[Key], Callable | None]

_PREFIX = "_emokernel_point_"
_DEEPEST = 2


def rewrite(function: FunctionType, replacement: Replacement, at: Key = ()) -> FunctionType | None:
    """``function`` with ``replacement(key)`` for its additions; None where nothing is replaced.

    None as well where there is no source to read. ``at``: the point where it is called.
    """
    function = inspect.unwrap(function)
    source = _read(function)
    if source is None:
        return None
    points = _Points(function, replacement, at)
    tree = points.visit(ast.parse(source).body[0])
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

    def _stand_in(
        self, make: Callable[[Key], Callable | None], like: ast.expr | ast.stmt
    ) -> ast.Name | None:
        """The name of what ``make`` gives for the next point; None where it gives nothing."""
        key = (*self._at, self._count)
        self._count += 1
        made = make(key)
        if made is None:
            return None
        name = f"{_PREFIX}{key[-1]}"
        self.found[name] = made
        return ast.copy_location(ast.Name(name, ast.Load()), like)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Add):
            return node
        name = self._stand_in(self._replacement, node)
        if name is None:
            return node
        return ast.copy_location(ast.Call(name, [node.left, node.right], []), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if not (isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name)):
            return node
        name = self._stand_in(self._replacement, node)
        if name is None:
            return node
        added = ast.Call(name, [ast.Name(node.target.id, ast.Load()), node.value], [])
        return ast.copy_location(ast.Assign([node.target], added), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = node.func
        if not isinstance(called, ast.Name) or len(self._at) + 1 >= _DEEPEST:
            return node
        function = self._function.__globals__.get(called.id)
        if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
            return node
        # A decorator may give a function the name of another: the file of its code is its own.
        if function.__code__.co_filename != self._function.__code__.co_filename:
            return node
        rewritten = partial(rewrite, function, self._replacement)
        node.func = self._stand_in(rewritten, called) or called
        return node


def _build(
    function: FunctionType, tree: ast.FunctionDef, given: Mapping[str, object]
) -> FunctionType:
    """A function like ``function`` with the body of ``tree``, which also sees ``given``."""
    tree.decorator_list = []
    names = [*function.__code__.co_freevars, *given]
    outer = ast.parse(f"def outer({', '.join(names)}): pass")
    holder: Any = outer.body[0]
    holder.body = [tree]
    module = ast.fix_missing_locations(outer)
    flags = function.__code__.co_flags & __future__.annotations.compiler_flag
    compiled = compile(
        module, function.__code__.co_filename, "exec", flags=flags, dont_inherit=True
    )
    for name in ("outer", tree.name):
        inner = (each for each in compiled.co_consts if isinstance(each, CodeType))
        compiled = next(each for each in inner if each.co_name == name)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    cells |= {name: CellType(value) for name, value in given.items()}
    made = FunctionType(
        compiled,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells[name] for name in compiled.co_freevars),
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return made


class RewrittenForward(ReplacedMethod):
    """The forward of a module with some of its adds replaced."""

    def __init__(self, module: nn.Module, function: FunctionType) -> None:
        super().__init__(module, forward_name(module))
        self._function = function
        self._in_training = _checkpointed(function, type(module).forward)

    def __call__(self, *args: object, **kwargs: object) -> object:
        function = self._in_training if self.module.training else self._function
        return function(self.module, *args, **kwargs)


def _checkpointed(function: FunctionType, forward: Callable) -> FunctionType:
    """``function``, which stands for the ``forward`` of a class, checkpointed like that is.

    Newer transformers checkpoint within the forward of a block, older ones around it.
    """
    module = getattr(forward, "__globals__", {}).get("__name__")
    inner = getattr(forward, "__wrapped__", None)
    if module != "transformers.modeling_layers" or inner is None:
        return function
    cells = [
        CellType(function) if c.cell_contents is inner else c for c in forward.__closure__ or ()
    ]
    return FunctionType(
        forward.__code__, forward.__globals__, forward.__name__, forward.__defaults__, tuple(cells)
    )
