"""Tables of the goals and of the judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emokernel.lab.report.figures import number, percent, plain, worded
from emokernel.lab.report.tables.table import Table
from emokernel.lab.report.view import View

# What is said of a goal that holds, that does not, and that was not measured.
HELD: dict[bool | None, str] = {True: "holds", False: "does not hold", None: "not measured"}


def goals(view: View) -> Table:
    """What the evaluation was asked to show."""
    return Table(
        "Goals",
        ["Goal", "Found", "Asked for", "Verdict"],
        [[goal.name, goal.value, goal.bound, HELD[goal.holds]] for goal in view.results.goals],
        (1, 2, 3),
    )


def agreement(view: View) -> Table:
    """Judges against each other."""
    return Table(
        "Two judges on the same texts",
        ["Judges", "Texts", "Same top label", "Cohen's kappa", "Correlation of cosines",
         "Within 45°"],
        [
            [
                " and ".join(row.judges), f"{row.texts:,}", percent(row.equal), number(row.kappa),
                number(row.cosine_correlation), percent(row.within_45),
            ]
            for row in view.results.agreement
        ],
    )  # fmt: skip


def judges(view: View) -> Table:
    """What is known of each judge; other facts than the usual ones get columns of their own."""
    listed: Sequence[Mapping[str, Any]] = view.results.about.get("judges", ())
    keys = list(dict.fromkeys(key for judge in listed for key in judge if key != "name"))
    return Table(
        "Judges",
        ["Judge", *(worded(key).capitalize() for key in keys)],
        [
            [
                plain(judge.get("name")),
                *(
                    percent(judge[key], 1) if _is_share(key, judge) else plain(judge.get(key))
                    for key in keys
                ),
            ]
            for judge in listed
        ],
        tuple(n for n, key in enumerate(keys, 1) if any(_is_words(j.get(key)) for j in listed)),
    )


def _is_words(value: Any) -> bool:
    return value is not None and not isinstance(value, (int, float))


def _is_share(key: str, judge: Mapping[str, Any]) -> bool:
    value = judge.get(key)
    return "accuracy" in key and isinstance(value, float) and 0 <= value <= 1
