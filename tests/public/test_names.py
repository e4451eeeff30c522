"""What the documentation and people's scripts import goes on to import, and commands to run."""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from public.surface import ROOT, commands, documents, imports, references

import emokernel

HERE = Path(__file__).parent
FROZEN = json.loads((HERE / "names.json").read_text("utf-8"))
OPTIONS = json.loads((HERE / "options.json").read_text("utf-8"))


def imported(module: str) -> ModuleType:
    """A module of this package, and not of another installation that the import fell back to."""
    value = importlib.import_module(module)
    assert Path(value.__file__).is_relative_to(Path(emokernel.__file__).parent), value.__file__
    return value


def resolved(module: str, name: str = "") -> Any:
    """What ``from module import name`` gives, or ``import module`` for no name."""
    value = imported(module)
    if not name:
        return value
    try:
        return getattr(value, name)
    except AttributeError:
        return imported(f"{module}.{name}")  # a module that nobody imported yet


def dotted(path: str) -> Any:
    """What a dotted path names: modules, then attributes of the last one."""
    value: Any = emokernel
    parts = path.split(".")
    for number, part in enumerate(parts[1:], start=2):
        try:
            value = getattr(value, part)
        except AttributeError:
            value = imported(".".join(parts[:number]))
    return imported(path) if isinstance(value, ModuleType) else value


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_imports_and_names_is_there(document):
    text = document.read_text("utf-8")
    with warnings.catch_warnings():  # documentation follows what moves
        warnings.filterwarnings("error", ".*emokernel", DeprecationWarning)
        for module, name in imports(text):
            resolved(module, name)
        for path in references(text):
            dotted(path)


def test_imports_of_every_form_are_read():
    text = "import emokernel.a\n    from emokernel.b import (\n  C,\n  d as e,\n)\n" + (
        "from emokernel import patch, f  # why\nfrom emokernels import g\n`emokernel.h.i(...)`"
        " emokernel-demo x/emokernel.bench emokernel.md `emokernel.names`"
    )
    assert imports(text) == {
        ("emokernel.a", ""), ("emokernel.b", "C"), ("emokernel.b", "d"),
        ("emokernel", "patch"), ("emokernel", "f"),
    }  # fmt: skip
    assert references(text) == {"emokernel.a", "emokernel.b", "emokernel.h.i"}


@pytest.mark.parametrize(("module", "name"), FROZEN["imports"])
def test_a_name_that_was_public_is_still_imported(module, name):
    """One that has moved may say so, by a DeprecationWarning that names where it was."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*emokernel")
        package = ".".join(module.split(".")[:2])
        warnings.filterwarnings("ignore", f".*{package}", DeprecationWarning)
        assert resolved(module, name) is not None


@pytest.mark.parametrize("path", FROZEN["references"])
def test_a_path_that_was_documented_still_leads_somewhere(path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*emokernel")
        warnings.filterwarnings("ignore", r".*emokernel\.", DeprecationWarning)
        assert dotted(path) is not None


def test_the_package_offers_what_it_offered():
    assert set(FROZEN["all"]) <= set(emokernel.__all__)
    assert all(hasattr(emokernel, name) for name in emokernel.__all__)


def test_no_command_is_gone():
    assert set(OPTIONS) <= set(commands())


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_of_a_command_are_what_they_were(command):
    """There may be more options and choices, and none that has to be given."""
    now = commands()[command]
    for option, was in OPTIONS[command].items():
        assert option in now, f"{command} {option}"
        choices = now[option]["choices"]
        if choices is not None:
            assert was["choices"] is not None, f"{command} {option} took anything"
            assert set(was["choices"]) <= set(choices), f"{command} {option}"
        assert now[option] | {"choices": None} == was | {"choices": None}, f"{command} {option}"
    given = [[each for each in taken if each[0] != "-"] for taken in (OPTIONS[command], now)]
    assert given[0] == given[1], "what is given without an option, in its order"
    new = [option for option in now if option not in OPTIONS[command]]
    assert not any(now[option]["required"] for option in new)
