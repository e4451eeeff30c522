"""What a calibration gives: vectors, all points that were measured, and what was chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from statistics import mean

from emokernel.atomic import write_text
from emokernel.lab.calibrate.choose import Point
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import key_of


@dataclass(frozen=True)
class Row:
    """One measured point and what it belongs to."""

    stage: str
    candidate: str
    name: str
    law: str
    dose: str
    point: Point


@dataclass(frozen=True)
class Calibrated:
    """``vectors`` with their calibration, all points that were measured, and what was chosen.

    ``chosen``: {law and dose: {emotion or state: the point at strength 1.0, smoothed}}.
    """

    vectors: EmotionVectors
    rows: tuple[Row, ...]
    chosen: Mapping[str, Mapping[str, Point]]

    def save_rows(self, path: str | PathLike[str]) -> None:
        """Write all points as JSON lines, each of them flat."""
        flat = (vars(row) | vars(row.point) for row in self.rows)
        lines = ({name: value for name, value in row.items() if name != "point"} for row in flat)
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))

    def summary(self) -> str:
        """What was chosen, as a table."""
        calibration = self.vectors.calibration
        law, dose = calibration.law, calibration.dose
        layers = [layer for layer, weight in enumerate(calibration.profile) if weight]
        keys = key_of(law, dose), key_of(law, dose, calibration.mapping)
        shown = [each for key in keys for each in self.chosen.get(key, {}).items()]
        lines = [
            f"chosen: {calibration.record['chosen']} (layers {layers}), law {law}, dose {dose},"
            f" mapping {calibration.mapping}",
            "",
            "At strength 1.0 (emotion: the judge's probability; state: affect along its direction;"
            " perplexity and distinct-3 times unsteered; repeated within a text, more than there):",
            f"  {'':<16}{'strength':>10}{'effect':>9}{'perplexity':>12}{'distinct-3':>12}"
            f"{'repeated':>10}",
        ]
        lines += [
            f"  {name:<16}{point.strength:>10.3g}{point.effect:>9.3f}{point.perplexity:>12.2f}"
            f"{point.distinct:>12.2f}{point.repetition:>10.3f}"
            for name, point in shown
        ]
        weak = [name for name, point in shown if not point.strength]
        if weak:
            lines.append(f"No dose within the bounds strengthens {', '.join(weak)}.")
        candidates = calibration.record["candidates"]
        lines += ["", "Mean effect of the sites and layers that were tried, at their best doses:"]
        lines += [f"  {name:<48}{score:>8.3f}" for name, score in candidates.items()]
        lines += ["", "Mean effect at strength 1.0 by law, dose and mapping:"]
        lines += [
            f"  {key:<26}{mean(point.effect for point in points.values()):>8.3f}"
            for key, points in self.chosen.items()
        ]
        return "\n".join(lines)
