"""A table, as text that HTML and Markdown lay out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Table head of a measure that several tables have.
DISTINCT = "Distinct\N{NON-BREAKING HYPHEN}3"


@dataclass(frozen=True)
class Table:
    """Cells of text; the first of a row names it. ``words``: the other columns that hold text;
    ``totalled``: whether the last row sums up the others."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: tuple[int, ...] = ()
    totalled: bool = False
