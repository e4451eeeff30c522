"""`emokernel show`: what a file of emotion vectors holds, as tables and a picture."""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from emokernel.commands import outputs
from emokernel.commands.arguments import add_file, load_file
from emokernel.errors import ranges
from emokernel.lab.report.vectors_plot import columns_of
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import Calibration

_WIDTH = 100
_LONGEST = 14  # of a name above a column


def add(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "file")
    outputs.add_plot(parser)


def run(chosen: argparse.Namespace) -> None:
    """Print the tables, draw the picture."""
    outputs.check_plot(chosen.plot)
    vectors = load_file(chosen.file, chosen)
    for line in describe(vectors):
        print(line)
    outputs.plot(vectors, chosen.plot)


def describe(vectors: EmotionVectors) -> Iterator[str]:
    """The lines of `emokernel show`, at most 100 characters each."""
    have = f"{len(vectors.layers)} of {vectors.num_layers} have vectors"
    yield from _entry("emotions", f"{len(vectors.names)}: {', '.join(vectors.names)}")
    yield from _entry("layers", f"{have}: {ranges(vectors.layers)}" if vectors.layers else have)
    yield from _entry("hidden size", str(vectors.hidden_size))
    yield from _entry("site", vectors.site)
    norms = vectors.tensor.double().norm(dim=-1)
    layers = {str(layer): norms[layer].tolist() for layer in vectors.layers}
    yield from table("Norm of the vectors", "layer", vectors.names, layers)
    if vectors.provenance:
        yield from ("", "Provenance")
        for key, value in vectors.provenance.items():
            yield from _entry(key, _condensed(value), indent=2)
    if vectors.calibration:
        yield from _calibration(vectors.calibration)
    if vectors.diagnostics:
        yield from _diagnostics(vectors)


def _calibration(calibration: Calibration) -> Iterator[str]:
    yield from ("", "Calibration: what strength 1.0 means")
    for key in ("law", "dose", "site", "mapping", "coordinates"):
        yield from _entry(key, getattr(calibration, key), indent=2)
    steered = [(layer, factor) for layer, factor in enumerate(calibration.profile) if factor]
    profile = ", ".join(f"{layer}: {factor:.3g}" for layer, factor in steered)
    yield from _entry("profile", profile or "no layer", indent=2)
    for key, value in calibration.record.items():
        if key not in ("candidates", "at_strength_1"):  # the frontier's files show these
            yield from _entry(key, _condensed(value), indent=2)
    strengths = calibration.strengths.values()
    emotions = dict.fromkeys(name for weights in strengths for name in weights)
    rows = {
        _printable(name): [weights.get(name, math.nan) for weights in strengths]
        for name in emotions
    }
    title = "Weight of strength 1.0"
    yield from table(title, "emotion", list(calibration.strengths), rows, longest=24)


def _diagnostics(vectors: EmotionVectors) -> Iterator[str]:
    columns = columns_of(vectors)
    if columns:
        rows = {
            str(layer): [values[layer] for values in columns.values()]
            for layer in range(vectors.num_layers)
            if not all(math.isnan(values[layer]) for values in columns.values())
        }
        title = "Diagnostics, means over the emotions"
        yield from table(title, "layer", list(columns), rows)
    heldout = vectors.diagnostics.get("heldout_texts")
    if isinstance(heldout, Mapping):
        counts = ", ".join(f"{name} {count}" for name, count in heldout.items())
        yield from _entry("held-out texts", counts, indent=2)


def table(
    title: str,
    corner: str,
    names: Sequence[str],
    rows: Mapping[str, Sequence[float | str | None]],
    longest: int = _LONGEST,
    width: int = _WIDTH,
) -> Iterator[str]:
    """A table in as many parts of ``width`` characters, one below the other, as it needs.

    ``longest``: characters of a name; what is longer is cut.
    """
    heads = [_cut(_printable(name), longest) for name in names]
    rows = {_cut(label, longest): list(map(_shown, values)) for label, values in rows.items()}
    columns = zip(heads, *rows.values(), strict=True)
    widths = [2 + max(7, *map(len, column)) for column in columns]
    left = max(map(len, [corner, *rows]))
    begin = 0
    while begin < len(heads):
        end = begin + 1
        while end < len(heads) and left + sum(widths[begin : end + 1]) <= width:
            end += 1
        part = range(begin, end)
        yield from ("", title if not begin else f"{title} (continued)")
        yield corner.rjust(left) + "".join(heads[at].rjust(widths[at]) for at in part)
        for label, values in rows.items():
            cells = (values[at].rjust(widths[at]) for at in part)
            yield label.rjust(left) + "".join(cells)
        begin = end


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _shown(value: float | str | None) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, int | str):
        return str(value)
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 or not value else f"{value:.2g}"


def _entry(key: str, text: str, indent: int = 0) -> Iterable[str]:
    key = _printable(str(key))
    margin = " " * indent
    return textwrap.wrap(
        _printable(text) or "-", _WIDTH, initial_indent=f"{margin}{key:<13} ",
        subsequent_indent=margin + " " * 14,
    )  # fmt: skip


def _condensed(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 300 else f"{text[:280]}… ({len(text)} characters)"


def _printable(text: str) -> str:
    """With what a terminal would not show, or obey, written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
