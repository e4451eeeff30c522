"""Results as `figures.py` reads them, and how they are written as markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from emokernel.bench.harness import read

Row = dict[str, Any]
NOT_YET = "Not measured yet: `python benchmarks/{}`."
# Of one run together: what is left of a row is which variant it is of.
CASES = {
    "ops": ("benchmark", "rows", "d", "dtype"),
    "shapes": ("plan", "form", "rows", "d", "dtype", "isa", "threads"),
    "decode": ("model", "dtype", "batch"),
    "serving-load": ("model", "phase"),
    "serving-cost": ("model", "clients"),
    "models": ("model", "dtype", "what", "mode", "batch", "context"),
    "felt": ("model",),
}
DTYPES = ("fp32", "bf16", "fp16")


class Results:
    """The newest results of a folder, by question and machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, question: str) -> list[tuple[Path, list[Row]]]:
        """(file, rows) of each machine, the newest first; of a case its last run alone."""
        found = []
        for path in self._folder.glob(f"{question}-*.jsonl"):
            last: dict[tuple, str] = {}
            rows = read(path, last_run=False)
            for row in rows:
                case = case_of(question, row)
                last[case] = max(last.get(case, ""), row["date"])
            newest = [row for row in rows if row["date"] == last[case_of(question, row)]]
            found.append((max(last.values()), path, newest))
        return [(path, rows) for _, path, rows in sorted(found, key=lambda each: each[0])[::-1]]


def case_of(question: str, row: Row) -> tuple:
    """What a row is a variant of."""
    return tuple(row.get(key) for key in CASES[question])


def machine(row: Row) -> str:
    """Such as "2 cores of an Intel Xeon (family 6, model 207)"."""
    about = row["machine"]
    name = about["cpu"].replace("(R)", "").replace(" Processor", "")
    article = "an" if name[0] in "AEIO" else "a"
    return f"{about['cores']} cores of {article} {name}"


def where(path: Path, rows: Sequence[Row]) -> str:
    """The line above a machine's figures."""
    dates = sorted({row["date"][:10] for row in rows})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"*{machine(rows[-1])}, {when}, `{path.name}`*"


def picture(path: Path, about: str) -> str:
    """The picture beside a results file as docs/ shows it; nothing where there is none."""
    drawn = path.with_suffix(".png")
    return f"![{about}](../benchmarks/results/{drawn.name})" if drawn.exists() else ""


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """In markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def wrapped(sentence: str) -> str:
    """In lines of 120."""
    return textwrap.fill(sentence, 120, break_long_words=False, break_on_hyphens=False)


def interval(ratio: Sequence[float] | None) -> str:
    """Such as "0.985 (0.980 to 0.991)"."""
    return "{:.3f} ({:.3f} to {:.3f})".format(*ratio) if ratio else ""
