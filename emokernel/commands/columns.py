"""Texts beside each other in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from itertools import zip_longest

_LEAST, _GAP = 24, 2


def side_by_side(texts: Mapping[str, str], width: int | None) -> Iterator[str]:
    """Lines of at most ``width`` characters: a column for each {head: text}, as many as fit.

    Without a width a line for each of them, however long. What a terminal obeys is left out.
    """
    shown = {one_line(head): one_line(text) for head, text in texts.items()}
    if width is None:
        left = 2 + max(map(len, shown))
        yield from (f"{head:<{left}}{text}".rstrip() for head, text in shown.items())
        yield ""
        return
    count = max(1, min(len(shown), (width + _GAP) // (_LEAST + _GAP)))
    each = max(1, (width + _GAP) // count - _GAP)
    cells = [[head[:each], "-" * each, *textwrap.wrap(text, each)] for head, text in shown.items()]
    for start in range(0, len(cells), count):
        for line in zip_longest(*cells[start : start + count], fillvalue=""):
            yield (" " * _GAP).join(piece.ljust(each) for piece in line).rstrip()
        yield ""


def one_line(text: str) -> str:
    """Of what can be seen of a text."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())
