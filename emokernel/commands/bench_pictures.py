"""What `emokernel bench` says above its tables, and the pictures that it draws below them."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from emokernel.bench import machine, machine_slug, versions
from emokernel.bench.cases import Case
from emokernel.bench.pictures import along, latency, varied
from emokernel.bench.prepared import BenchOptions
from emokernel.bench.results import Row
from emokernel.extras import need

# More cases have pictures of the sweep only.
_MOST = 6
# A picture with something in it takes longer than an empty one, and ending the process takes time.
_FACTOR, _LAST = 3, 1.5


def heading(about: Mapping[str, str], vectors: str, options: BenchOptions) -> str:
    """Model, machine, versions, and how to read what follows."""
    on, of = machine(), versions()
    return (
        f"{about['model']}, {about['dtype']} on {about['device']}; vectors: {vectors}\n"
        f"{on['gpu'] or on['cpu']}, {on['cores']} cores, {on['threads']} threads;"
        f" torch {of['torch']}, transformers {of['transformers']}\n"
        f"all steer at site {options.site!r}, by the vectors as they are\n"
        "times in ms; ratios with their 95 % interval, paired by round, and only where it lies"
        " outside of the noise"
    )


class Gallery:
    """The pictures of a run: of each case where there are few, and of each axis that varies."""

    def __init__(self, folder: Path, about: Mapping[str, str], cases: Sequence[Case]) -> None:
        self._folder, self._cases = folder, cases
        name = Path(about["model"]).name
        self._slug = re.sub(r"[^a-z0-9]+", "-", f"{name}-{about['dtype']}".lower()).strip("-")
        self._title = f"{name}, {about['dtype']}, {machine_slug()}"
        self._axes = varied(cases)
        self._each = len(cases) <= _MOST

    def seconds(self) -> float:
        """How long drawing may take on this machine, by an empty picture."""
        began = time.monotonic()
        figure = need("matplotlib.figure").Figure(layout="constrained")
        figure.subplots()
        figure.savefig(io.BytesIO(), format="png")
        took = time.monotonic() - began
        pictures = len(self._axes) + (len(self._cases) if self._each else 0)
        return _FACTOR * pictures * took + _LAST

    def draw(self, done: Mapping[Case, Sequence[Row]]) -> list[Path]:
        """All that there is something to draw of."""
        drawn = []
        measured = {
            case: done[case]
            for case in self._cases
            if any("token_ms" in row for row in done.get(case, ()))
        }
        for case, rows in measured.items() if self._each else ():
            drawn.append(self._folder / f"{self._slug}-{case.slug}.png")
            latency(drawn[-1], rows, f"{self._title}\n{case}")
        for axis in self._axes:
            path = self._folder / f"{self._slug}-along-{axis}.png"
            if along(path, axis, list(measured.items()), self._title):
                drawn.append(path)
        return drawn
