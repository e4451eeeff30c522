"""A chart: panels that a page lays out by its width, or that one picture holds side by side."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emokernel.atomic import save_figure
from emokernel.extras import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_DPI = 160


@dataclass(frozen=True)
class Look:
    """How a condition is drawn, the same in every chart."""

    label: str
    colour: str
    marker: str = "o"
    line: str = "-"

    @property
    def style(self) -> dict[str, Any]:
        """For ``Axes.plot``."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.line}


@dataclass(frozen=True)
class Panel:
    """``draw`` fills axes; ``message`` says in words what they show."""

    title: str
    message: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Chart:
    """Panels of ``size`` inches, at most ``columns`` beside each other, and what they mean."""

    kind: ClassVar[str] = "chart"
    name: str
    caption: str
    panels: Sequence[Panel]
    looks: Sequence[Look] = ()
    size: tuple[float, float] = (3.6, 2.7)
    columns: int = 3

    @property
    def file(self) -> str:
        """What `write` calls the picture."""
        return f"{self.name}.png"

    @property
    def message(self) -> str:
        """All panels in words."""
        return " ".join(f"{panel.title}: {panel.message}" for panel in self.panels)

    def images(self) -> list[str]:
        """Each panel as the data URI of an SVG picture."""
        uris = []
        for panel in self.panels:
            picture = io.BytesIO()
            with _styled():
                figure = need("matplotlib.figure").Figure(figsize=self.size, layout="constrained")
                panel.draw(figure.subplots())
                figure.savefig(picture, format="svg", metadata=_NO_METADATA)
            encoded = base64.b64encode(picture.getvalue()).decode()
            uris.append(f"data:image/svg+xml;base64,{encoded}")
        return uris

    def write(self, folder: Path) -> Path:
        """`draw` into a folder."""
        self.draw(folder / self.file)
        return folder / self.file

    def draw(self, path: Path) -> None:
        """All panels and the legend in one picture, of the kind that its ending says."""
        columns = min(self.columns, len(self.panels))
        lines = math.ceil(len(self.panels) / columns)
        width, height = self.size
        with _styled():
            figure = need("matplotlib.figure").Figure(
                figsize=(columns * width, lines * (height + 0.25) + 0.35 * bool(self.looks)),
                layout="constrained",
            )
            grid = figure.subplots(lines, columns, squeeze=False).flatten()
            for axes in grid[len(self.panels) :]:
                axes.set_axis_off()
            for axes, panel in zip(grid, self.panels, strict=False):
                panel.draw(axes)
                axes.set_title(shortened(panel.title, round(10 * width)))
            if self.looks:
                line = need("matplotlib.lines").Line2D
                figure.legend(
                    handles=[
                        line([], [], label=look.label, markersize=6, **look.style)
                        for look in self.looks
                    ],
                    loc="outside lower center", ncols=min(len(self.looks), 2 * columns),
                    frameon=False,
                )  # fmt: skip
            save_figure(figure, path, dpi=_DPI)


def shortened(text: str, length: int) -> str:
    """A text that fits into a picture."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


@contextmanager
def _styled() -> Iterator[None]:
    style = files("emokernel.lab.report") / "report.mplstyle"
    with (
        as_file(style) as file,
        need("matplotlib").rc_context(fname=file),
        warnings.catch_warnings(),
    ):
        # A script that matplotlib's font lacks is drawn by the reader's fonts in the SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
