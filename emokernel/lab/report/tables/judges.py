"""Tables of the judges: who they are, and how far they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from emokernel.lab.report.figures import number, percent, plain, worded
from emokernel.lab.report.parts import Table
from emokernel.lab.report.view import View


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


def judged(view: View) -> Table:
    """Emotion by emotion, what either judge finds, how well it tells the texts from unsteered
    ones, and how far both agree; the emotions on which they agree least come first."""
    rows = sorted(
        view.results.judged, key=lambda row: (math.isnan(row.correlation), row.correlation)
    )
    names = list(dict.fromkeys(name for row in rows for name in row.steered))
    return Table(
        "Each emotion as both judges read it, by vector at strength 1.0: mean probability"
        " (unsteered → steered), separation from the unsteered texts, rank correlation of the two",
        ["Emotion", *names, *(f"Separation, {name}" for name in names), "Correlation"],
        [
            [
                row.emotion,
                *(f"{number(row.unsteered.get(n))} → {number(row.steered.get(n))}" for n in names),
                *(number(row.separation.get(name)) for name in names),
                number(row.correlation),
            ]
            for row in rows
        ],
    )


def judges(view: View) -> Table:
    """What is known of each judge; other facts than the usual ones get columns of their own."""
    listed: Sequence[Mapping[str, Any]] = view.results.about.get("judges", ())
    keys = list(dict.fromkeys(key for judge in listed for key in judge if key != "name"))
    words = [key for key in keys if any(isinstance(judge.get(key), str) for judge in listed)]
    return Table(
        "Judges",
        ["Judge", *(worded(key).capitalize() for key in keys)],
        [[plain(judge.get(key)) for key in ("name", *keys)] for judge in listed],
        [n for n, key in enumerate(keys, 1) if key in words],
    )
