"""What vLLM finds: a module that cannot fail to be imported, and a function that raises."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import emokernel_vllm

PYPROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))


def test_the_module_imports_nothing_that_could_fail():
    """vLLM logs an error of its import, and runs on."""
    body = ast.parse(Path(emokernel_vllm.__file__).read_text("utf-8")).body
    imported = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {alias.name for node in imported for alias in node.names} <= sys.stdlib_module_names
    document, *functions = (node for node in body if node not in imported)
    assert isinstance(document.value, ast.Constant)
    assert all(isinstance(node, ast.FunctionDef) for node in functions)


class EngineArgs:
    def __init__(self, additional_config=None):
        self.additional_config = additional_config

    def create_engine_config(self, *args):
        return "config", args


@pytest.fixture
def broken(monkeypatch):
    """vLLM, into which emokernel cannot be put."""

    def install():
        raise KeyError("no such method")

    monkeypatch.setattr("emokernel.serve.vllm.install", install)
    module = ModuleType("vllm.engine.arg_utils")
    module.EngineArgs = type("EngineArgs", (EngineArgs,), {})
    for name in ("vllm", "vllm.engine"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", module)
    emokernel_vllm.register()
    return module.EngineArgs


@pytest.mark.parametrize("additional_config", [None, {}, {"other": {}}])
def test_who_is_not_asked_to_steer_starts_where_nobody_can(broken, additional_config, caplog):
    assert broken(additional_config).create_engine_config(1) == ("config", (1,))


def test_what_cannot_be_put_in_place_is_told_once_more_by_the_log(broken, caplog):
    with caplog.at_level("WARNING"):
        emokernel_vllm.register()
    assert "KeyError: 'no such method'" in caplog.text


@pytest.mark.parametrize(
    ("additional_config", "variable"),
    [({"emokernel": {}}, None), ({}, "EMOKERNEL_VLLM_VECTORS"), (None, "EMOKERNEL_VLLM_SITE")],
)
def test_who_is_asked_to_steer_does_not_start(broken, additional_config, variable, monkeypatch):
    if variable:
        monkeypatch.setenv(variable, "x")
    with pytest.raises(RuntimeError, match=r"cannot be put into this vLLM.*no such method"):
        broken(additional_config).create_engine_config()


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
