"""Fills the figures of README.md and docs/ from benchmarks/results: nobody types them.

    python benchmarks/figures.py            (make figures)
    python benchmarks/figures.py --check    (exit 1, and names the places that differ)

A place is what stands between two marks, each on a line of its own:

    <!-- figures: NAME -->
    ...
    <!-- end of figures -->

Each NAME is of `FIGURES`, and made of the newest result of each case and machine.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import figure_felt
import figure_models
import figure_operations
import figure_serving
from figure_results import Results

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES: dict[str, Callable[[Results], str]] = {
    "operation": figure_operations.operation,
    "operation-in-short": figure_operations.in_short,
    "shapes": figure_operations.shapes,
    "models": figure_models.models,
    "models-in-short": figure_models.in_short,
    "tokens": figure_models.tokens,
    "serving-start": figure_serving.start,
    "serving-load": figure_serving.load,
    "serving-cost": figure_serving.cost,
    "felt": figure_felt.felt,
}
PAGES = ("README.md", "docs/performance.md", "docs/serving.md", "docs/page.md")
_BEGIN = re.compile(r"<!-- figures: ([\w-]+) -->")
_END = "<!-- end of figures -->"
Figures = Mapping[str, Callable[[Results], str]]


def filled(text: str, results: Results, figures: Figures = FIGURES) -> str:
    """``text`` with every place as ``results`` have it; ValueError for a mark that is wrong."""
    parts, at = [], 0
    for begin in _BEGIN.finditer(text):
        name, end = begin[1], text.find(_END, begin.end())
        if name not in figures:
            raise ValueError(f"no figures are called {name!r}: there are {', '.join(figures)}")
        if end < 0 or _BEGIN.search(text, begin.end(), end):
            raise ValueError(f"the place of figures {name!r} does not end: write {_END}")
        parts += [text[at : begin.end()], f"\n{figures[name](results)}\n", _END]
        at = end + len(_END)
    return "".join([*parts, text[at:]])


def stale(root: Path = ROOT, results: Path = RESULTS) -> Iterator[tuple[Path, str]]:
    """The pages that are not what the results say, and what they should be."""
    found = Results(results)
    for name in PAGES:
        path = root / name
        text = path.read_text("utf-8")
        if (right := filled(text, found)) != text:
            yield path, right


def differing(text: str, right: str) -> Iterator[str]:
    """The names of the places in which two texts differ."""
    own, other = (_BEGIN.split(each)[1:] for each in (text, right))  # names and what follows
    for name, before, after in zip(own[::2], own[1::2], other[1::2], strict=True):
        if before != after:
            yield name


def main() -> None:
    """Write the pages anew, or say which are not as they should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    found = list(stale())
    for path, right in found:
        names = ", ".join(differing(path.read_text("utf-8"), right))
        print(f"{path.relative_to(ROOT)}: {names}{' differ' if options.check else ' written'}")
        if not options.check:
            path.write_text(right, "utf-8")
    if options.check and found:
        sys.exit("run python benchmarks/figures.py (make figures)")


if __name__ == "__main__":
    main()
