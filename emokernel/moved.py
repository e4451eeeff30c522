"""Old names of modules that moved, which work for one release and say where to look.

What documents, an ``__all__`` or a module that moved had keeps its old path; what only the package
itself imported does not. ``install`` puts a finder before the others, since folders of old modules
may lie about with their caches; it costs a look-up of a prefix for each import.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).parent

_TABLES = json.loads(_ROOT.joinpath("moved.json").read_text(encoding="utf-8"))
# {old: new}, below the package. What is within a package goes with it, unless it has a row itself.
MODULES: dict[str, str] = _TABLES["modules"]
# Names that left their module, or are called otherwise in it.
NAMES: dict[str, str] = _TABLES["names"]


def new_module(old: str) -> str | None:
    """The new name of the module that was called ``old``; None if none of that name moved."""
    parts = old.split(".")[1:]
    for end in range(len(parts), 0, -1):
        target = MODULES.get(".".join(parts[:end]))
        if target is not None:
            new = [*target.split("."), *parts[end:]]
            path = _ROOT.joinpath(*new)
            there = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
            return ".".join(["emokernel", *new]) if there else None
    return None


def renamed(module: str) -> Callable[[str], object]:
    """The ``__getattr__`` of a module, for those of its names that are in `NAMES`."""

    def forward(name: str) -> object:
        new = NAMES.get(f"{module}.{name}".removeprefix("emokernel."))
        if new is not None:
            place, _, attribute = f"emokernel.{new}".rpartition(".")
            _tell(f"{module}.{name}", f"{place}.{attribute}")
            return getattr(importlib.import_module(place), attribute)
        submodule = new_module(f"{module}.{name}")
        if submodule is not None:
            _tell(f"{module}.{name}", submodule)
            return importlib.import_module(submodule)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return forward


def _tell(old: str, new: str) -> None:
    """A warning at the line that asked whoever calls this."""
    warnings.warn(
        f"{old} is {new} now; the old name goes in the next release",
        DeprecationWarning,
        stacklevel=3,
    )


class _Old(ModuleType):
    """A module by its old name, with what the new one has."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import of a submodule would hide a function of the same name.
        if not (isinstance(value, _Old) and name in vars(self)):
            super().__setattr__(name, value)


class _Moved(MetaPathFinder, Loader):
    """Finds and fills old modules."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        moved = name.startswith("emokernel.") and new_module(name) is not None
        return ModuleSpec(name, self, is_package=True) if moved else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Old(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        name = str(new_module(module.__name__))
        _tell(module.__name__, name)
        new = importlib.import_module(name)
        kept = {"__all__", "__doc__", "__file__"} & set(vars(new))
        vars(module).update({each: vars(new)[each] for each in vars(new) if each[:2] != "__"})
        vars(module).update({each: vars(new)[each] for each in kept})
        vars(module)["__getattr__"] = renamed(module.__name__)


def install() -> None:
    """Let old names be imported; once is enough."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Moved())
