"""What vLLM finds: a module that cannot fail to be imported, and a function that raises."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import emokernel_vllm

PYPROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))


def test_the_module_imports_nothing_that_could_fail():
    """vLLM logs an error of its import, and runs on."""
    body = ast.parse(Path(emokernel_vllm.__file__).read_text("utf-8")).body
    document, function = body
    assert isinstance(document.value, ast.Constant)
    assert isinstance(function, ast.FunctionDef)
    assert not function.decorator_list
    assert [node.name for node in ast.walk(function) if isinstance(node, ast.alias)] == ["install"]


def test_what_cannot_be_put_in_place_is_raised(monkeypatch):
    def install():
        raise RuntimeError("no such class")

    monkeypatch.setattr("emokernel.serve.vllm.install", install)
    with pytest.raises(RuntimeError, match="no such class"):
        emokernel_vllm.register()


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is here")
def test_without_vllm_it_raises():
    with pytest.raises(ModuleNotFoundError, match="vllm"):
        emokernel_vllm.register()


def test_vllm_is_told_where_it_is():
    project = PYPROJECT["project"]
    plugins = project["entry-points"]["vllm.general_plugins"]
    assert plugins == {"emokernel": "emokernel_vllm:register"}
    assert emokernel_vllm.__name__ in PYPROJECT["tool"]["setuptools"]["py-modules"]
    # A build of vLLM for another machine goes by another name.
    assert project["optional-dependencies"]["vllm"] == []


def test_nothing_else_imports_vllm():
    """What is imported from it stands in functions, but for the module of its server."""
    package = Path(sys.modules["emokernel"].__file__).parent
    found = []
    for path in package.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [path.relative_to(package) for name in names if name.split(".")[0] == "vllm"]
    assert set(map(str, found)) == {"serve/vllm/http.py"}
