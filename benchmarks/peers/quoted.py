"""Published figures of systems that need a GPU and were not run here: quoted.json.

Nothing in it is a measurement of ours. ``checked``: the figure was read at its source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("quoted.json")


@dataclass(frozen=True)
class Quoted:
    """One figure, steered; ``unsteered`` is the same figure without steering, where it is given."""

    system: str
    version: str
    measured: str
    figure: float | tuple[float, float]  # a span where the source gives one
    unit: str
    hardware: str
    source: str
    checked: bool
    date: str | None = None
    unsteered: float | None = None

    def __post_init__(self) -> None:
        said = (self.system, self.version, self.measured, self.unit, self.hardware)
        if not all(text.strip() for text in said):
            raise ValueError(
                f"{self.system or self.source}: each entry says version, unit, hardware"
            )
        if not self.source.startswith("https://"):
            raise ValueError(f"{self.system}: {self.source!r} is no address of a source")

    @property
    def ratio(self) -> float | None:
        """Steered over unsteered, where both are given."""
        return None if self.unsteered is None else self.figure / self.unsteered


def quoted(file: Path = FILE) -> list[Quoted]:
    """All entries; an error names the one that lacks something."""
    entries = json.loads(file.read_text())
    for entry in entries:
        if isinstance(entry["figure"], list):
            entry["figure"] = tuple(entry["figure"])
    return [Quoted(**entry) for entry in entries]
