"""Old names of modules that moved, which work for one release and say where to look.

What documents, an ``__all__`` or a module that moved had keeps its old path; what only the package
itself imported does not. ``install`` puts a finder before the others; it costs a look-up of a
prefix for each import, and nothing is imported until something is asked of an old name.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_ROOT = Path(__file__).parent

# {old: new}, below the package. What is within a package goes with it, unless it has a row itself.
MODULES = {
    "affect.plots": "lab.report.positions_plot",
    "affect.positions": "lab.evaluate.positions",
    "bench.compilations": "verify.compilations",
    "bench.environment": "machine",
    "bench.run": "bench.benchmark",
    "calibrate": "lab.calibrate",
    "calibrate.dose": "lab.measure.equal_doses",
    "calibrate.measure": "lab.calibrate.points",
    "calibrate.run": "lab.calibrate.calibrator",
    "demo.conditions": "lab.measure.conditions",
    "demo.features": "lab.judges.features",
    "demo.judge": "lab.judges.judge",
    "demo.linear_judge": "lab.judges.linear_judge",
    "evaluate": "lab.evaluate",
    "evaluate.affect": "lab.measure.places",
    "evaluate.classifiers": "lab.measure.classifiers",
    "evaluate.digest": "lab.measure.classifiers",
    "evaluate.divergence": "lab.measure.divergence",
    "evaluate.doses": "lab.evaluate.dosing",
    "evaluate.encoding": "lab.measure.encoding",
    "evaluate.fluency": "lab.measure.fluency",
    "evaluate.generation": "lab.measure.generation",
    "evaluate.intervals": "lab.measure.intervals",
    "evaluate.report": "lab.report",
    "evaluate.run": "lab.evaluate.evaluation",
    "evaluate.transformers_classifier": "lab.judges.transformers_classifier",
    "journal": "lab.measure.journal",
    "learn": "lab.learn",
    "learn.compare": "lab.learn.comparison",
    "learn.dose": "lab.learn.comparison",
    "mixes": "affect.mixes",
    "sampling": "lab.measure.sampling",
    "serving": "serve",
    "vectors.extraction": "lab.extract",
    "vectors.extraction.extract": "lab.extract.extraction",
    "vectors.measured": "lab.report.vectors_plot",
    "vectors.plots": "lab.report.vectors_plot",
    "verify.run": "verify.verification",
}
# Names that left their module, or are called otherwise in it.
NAMES = {
    "affect.positions.Agreement": "affect.circular.Agreement",
    "affect.positions.agreement": "affect.circular.agreement",
    "affect.positions_of": "lab.evaluate.positions.positions_of",
    "bench.Comparison": "bench.harness.PairedRatio",
    "bench.run.Measured": "bench.benchmark.MeasuredCase",
    "bench.run.Options": "bench.benchmark.BenchOptions",
    "evaluate.classifiers.EMBEDDED": "lab.judges.load.EMBEDDED",
    "evaluate.classifiers.EVALUATING": "lab.judges.load.EVALUATING",
    "evaluate.classifiers.load_classifier": "lab.judges.load.load_classifier",
    "evaluate.results.Agreement": "lab.evaluate.results.JudgeAgreement",
    "vectors.SITES": "choices.SITE",
    "vectors.extraction.datasets.NEUTRAL": "lab.extract.labelled_texts.NEUTRAL",
    "vectors.extraction.datasets.normalised": "lab.extract.labelled_texts.normalised",
    "vectors.extraction.datasets.parse_rows": "lab.extract.text_files.parse_rows",
    "vectors.extraction.reading.Text": "lab.measure.encoding.Text",
    "vectors.extraction.reading.encode": "lab.measure.encoding.encode",
    "vectors.extraction.reading.special_ids": "lab.measure.encoding.special_ids",
    "vectors.extraction.recording.Sample": "lab.measure.encoding.TokenizedText",
}


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


def renamed(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that still stands, for those of its names in `NAMES`."""

    def forward(name: str) -> Any:
        return _forward(module, name)

    return forward


def _forward(module: str, name: str) -> Any:
    """What was ``name`` in ``module``, with a warning at the line that asked whoever calls this."""
    unknown = AttributeError(f"module {module!r} has no attribute {name!r}")
    if name.startswith("__"):
        raise unknown
    new = NAMES.get(f"{module}.{name}".removeprefix("emokernel."))
    target = new_module(module)
    if new is not None:
        place, _, attribute = f"emokernel.{new}".rpartition(".")
        value = getattr(importlib.import_module(place), attribute)
    elif target is not None and hasattr(importlib.import_module(target), name):
        place, attribute = target, name
        value = getattr(sys.modules[target], name)
    elif (submodule := new_module(f"{module}.{name}")) is not None:
        place, _, attribute = submodule.rpartition(".")
        value = importlib.import_module(submodule)
    else:
        raise unknown
    warnings.warn(
        f"{module}.{name} is {place}.{attribute} now; the old name goes in the next release",
        DeprecationWarning,
        stacklevel=3,
    )
    return value


class _Old(ModuleType):
    """A module by its old name: empty, it gives what the new one has."""

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":  # what `import *` asks for
            new = importlib.import_module(str(new_module(self.__name__)))
            return getattr(new, "__all__", [each for each in vars(new) if each[0] != "_"])
        return _forward(self.__name__, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # The import of a submodule would hide a function of the same name.
        if not isinstance(value, _Old):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return dir(importlib.import_module(str(new_module(self.__name__))))


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Old(spec.name, f"Moved to `{new_module(spec.name)}`.")

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _Finder(MetaPathFinder):
    """Finds old names. It comes first: folders of old modules may lie about with their caches."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        new = new_module(name) if name.startswith("emokernel.") else None
        if new is None:
            return None
        place = _ROOT.joinpath(*new.split(".")[1:])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        spec = ModuleSpec(name, _Loader(), origin=str(file), is_package=place.is_dir())
        spec.has_location = True  # so that the old module has the __file__ of the new one
        return spec


def install() -> None:
    """Let old names be imported; once is enough."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
