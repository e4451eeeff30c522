"""Old names give what they always gave, and say where it is now; new ones say nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings

import pytest

from emokernel import moved
from emokernel.bench import PairedRatio
from emokernel.bench.benchmark import BenchOptions
from emokernel.bench.harness import interleaved
from emokernel.choices import SITE
from emokernel.lab import evaluate, learn, report
from emokernel.lab.evaluate import positions
from emokernel.lab.extract import extract, prompts
from emokernel.lab.judges import judge, load
from emokernel.lab.measure import classifiers, conditions, journal
from emokernel.lab.report import positions_plot

# What is not said of a moved name here is an error there, of the tests' own imports too.
pytestmark = pytest.mark.filterwarnings("error::DeprecationWarning:emokernel")


@pytest.fixture(autouse=True)
def forgotten():
    """Old names are told of when they are imported first."""
    for name in [name for name, module in sys.modules.items() if isinstance(module, moved._Old)]:
        del sys.modules[name]


def imported(statement: str, name: str) -> object:
    """What ``statement`` binds to ``name``; its one warning shows the line."""
    scope = {"__name__": "users_own"}
    with pytest.warns(DeprecationWarning, match=r"emokernel.* is emokernel\..* now") as seen:
        exec(compile(statement, "users_own.py", "exec"), scope)
    assert {warning.filename for warning in seen} == {"users_own.py"}
    return scope[name]


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("from emokernel.evaluate.classifiers import load_classifier", load.load_classifier),
        ("from emokernel.evaluate.classifiers import columns_of", classifiers.columns_of),
        ("from emokernel.evaluate.affect import places", classifiers.places),
        ("from emokernel.evaluate import classifiers", classifiers),
        ("from emokernel.vectors.extraction import prompts", prompts),
        ("from emokernel.affect import positions_of", positions.positions_of),
        ("from emokernel.affect.positions import positions_of", positions.positions_of),
        ("from emokernel.affect.positions import agreement", positions.agreement),
        ("from emokernel.affect import agreement", positions.agreement),
        ("from emokernel.affect.circular import agreement", positions.agreement),
        ("from emokernel.affect.plots import plot_positions", positions_plot.plot_positions),
        ("from emokernel.vectors.extraction.prompts import Conditioning", prompts.Conditioning),
        ("from emokernel.vectors.extraction import extract", extract),
        ("from emokernel.vectors.extraction.extract import extract", extract),
        ("from emokernel.demo.judge import Judge", judge.Judge),
        ("from emokernel.demo.conditions import CONDITIONS", conditions.CONDITIONS),
        ("from emokernel.journal import Journal", journal.Journal),
        ("from emokernel.learn import compare", learn.compare),
        ("from emokernel.bench import Comparison", PairedRatio),
        ("from emokernel.bench import interleaved", interleaved),
        ("from emokernel.bench.run import Options", BenchOptions),
        ("from emokernel.vectors import SITES", SITE),
        ("from emokernel.learn.compare import compare", learn.compare),
    ],
)  # fmt: skip
def test_from_imports(statement, value):
    assert imported(statement, statement.rpartition(" ")[2]) is value


def test_a_name_of_a_package_is_not_hidden_by_a_submodule_of_that_name():
    lines = "from emokernel.learn.compare import compare\nfrom emokernel.learn import compare as it"
    assert imported(lines, "it") is learn.compare
    assert learn.compare is not learn.comparison


def test_plain_imports():
    lines = "import emokernel.evaluate.report.write\nvalue = emokernel.evaluate.report.write_report"
    assert imported(lines, "value") is report.write_report
    lines = "import emokernel.demo.judge as old\nvalue = old.Judge"
    assert imported(lines, "value") is judge.Judge


@pytest.mark.parametrize(
    "name",
    ["emokernel.evaluate.nothing", "emokernel.evaluatex", "emokernel.demo.judge.nothing",
     "emokernel.lab.nothing", "emokernel.nothing"],
)  # fmt: skip
def test_what_never_was_is_not_found(name):
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)


def test_a_name_that_never_was_is_an_error():
    old = importlib.import_module("emokernel.evaluate")
    with pytest.raises(AttributeError, match=r"'emokernel\.evaluate' has no attribute 'nothing'"):
        _ = old.nothing
    assert {name for name in dir(evaluate) if name[:2] != "__"} <= set(dir(old))
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from emokernel.evaluate.classifiers import nothing")


@pytest.mark.parametrize("old", moved.MODULES)
def test_every_module_of_the_table_resolves(old):
    new = importlib.import_module(f"emokernel.{moved.MODULES[old]}")
    with pytest.warns(DeprecationWarning, match=rf"{old} is emokernel.{moved.MODULES[old]} now"):
        module = importlib.import_module(f"emokernel.{old}")
    assert module.__file__ == new.__file__
    for name in (name for name in vars(new) if not name.startswith("_")):
        assert getattr(module, name) is vars(new)[name]


@pytest.mark.parametrize("old", moved.NAMES)
def test_every_name_of_the_table_resolves(old):
    module, _, name = old.rpartition(".")
    place, _, new = moved.NAMES[old].rpartition(".")
    with pytest.warns(DeprecationWarning, match="now"):
        given = getattr(importlib.import_module(f"emokernel.{module}"), name)
    assert given is getattr(importlib.import_module(f"emokernel.{place}"), new)


def test_new_names_say_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for new in moved.MODULES.values():
            importlib.import_module(f"emokernel.{new}")


def test_the_table_imports_nothing():
    script = """
import sys
import emokernel
assert not [name for name in sys.modules if name.startswith("emokernel.lab")]
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("old", ["calibrate", "learn", "vectors.extraction", "sampling"])
def test_a_star_takes_what_it_took(old):
    """What the new module offers to a star: its ``__all__``, or all that has no underscore."""
    scope = {"__name__": "users_own"}
    with pytest.warns(DeprecationWarning, match="the old name goes in the next release") as seen:
        exec(compile(f"from emokernel.{old} import *", "users_own.py", "exec"), scope)
    assert {warning.filename for warning in seen} == {"users_own.py"}
    new = importlib.import_module(str(moved.new_module(f"emokernel.{old}")))
    names = getattr(new, "__all__", [name for name in vars(new) if name[0] != "_"])
    assert names
    assert all(scope[name] is getattr(new, name) for name in names)
