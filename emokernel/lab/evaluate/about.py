"""What was evaluated, with what and how: for the report, and to tell one run from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from emokernel.lab.evaluate.consistency import Reader
from emokernel.lab.evaluate.plan import Plan
from emokernel.lab.measure.classifiers import has_calibrated
from emokernel.lab.measure.fingerprint import fingerprint
from emokernel.machine import machine, versions

_FEW_QUERIES, _FEW_SEEDS = 20, 3


def identity(model: Any, plan: Plan, readers: Sequence[Reader]) -> dict[str, Any]:
    """What decides what a text is, how it is read, and nothing else."""
    steering, prompting, sampling = plan.steering, plan.prompting, plan.settings.sampling
    calibration, coordinates = steering.vectors.calibration, prompting.coordinates
    table = {label: (point.valence, point.arousal) for label, point in coordinates.points.items()}
    return {
        "model": fingerprint(model),
        "dtype": str(model.dtype),
        "vectors": steering.vectors.digest(),
        "calibration": _hash(asdict(calibration) if calibration else None),
        "steering": [plan.law, plan.dose, steering.mapping],
        "prompts": prompting.describe(),
        "sampling": [sampling.max_new_tokens, sampling.temperature, sampling.top_p],
        "judges": {each.name: each.judge.digest() for each in readers},
        "labels": {each.name: dict(each.labels_of) for each in readers},
        "coordinates": {coordinates.name: _hash(table)},
        **({} if plan.settings.reread else {"read again": False}),
    }


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def about(plan: Plan, readers: Sequence[Reader]) -> dict[str, Any]:
    """Vectors, judges, settings, notes, machine and versions."""
    steering, settings = plan.steering, plan.settings
    sampling, report = settings.sampling, steering.report()
    return {
        "vectors": {
            "emotions": list(steering.vectors.names),
            "digest": steering.vectors.digest()[:16],
            "site": report.site,
            "law": plan.law,
            "dose": plan.dose,
            "mapping": steering.mapping,
            "strength 1.0": report.strengths,
        },
        "judges": [
            {
                "name": reader.name,
                "role": "second" if number else "main",
                "labels": len(reader.judge.labels),
                "note": "It chose the strengths, so it is no witness for them."
                if has_calibrated(reader.judge, steering.vectors)
                else "",
            }
            for number, reader in enumerate(readers)
        ],
        "coordinates": plan.prompting.coordinates.name,
        "settings": {
            "openings": len(plan.queries),
            "questions": len(plan.questions),
            "seeds": settings.seeds,
            "intensities": list(settings.intensities),
            "intensities of prompts": list(settings.intensities_of_prompts),
            "strengths": list(settings.strengths),
            "doses": list(settings.doses),
            "laws": list(plan.laws),
            "other laws and doses": list(plan.compared),
            **({} if settings.graded is None else {"at all strengths": list(plan.graded)}),
            "templates": list(plan.templates),
            "templates beside vectors": list(plan.joined),
            "sampling": f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, at most"
            f" {sampling.max_new_tokens} tokens",
        },
        "notes": _notes(plan, readers),
        "machine": {name: value for name, value in machine().items() if value is not None},
        "versions": {name: value for name, value in versions().items() if value is not None},
    }


def _notes(plan: Plan, readers: Sequence[Reader]) -> list[str]:
    notes, settings = [], plan.settings
    if plan.steering.calibration is None:
        notes.append("The vectors are not calibrated: strength 1.0 is the vector as it is.")
    few = min(len(plan.questions), len(plan.queries))
    if few < _FEW_QUERIES or settings.seeds < _FEW_SEEDS:
        notes.append(
            f"There are {few} openings or questions and {settings.seeds} seeds. With fewer"
            f" than {_FEW_QUERIES} and {_FEW_SEEDS} the intervals are too narrow."
        )
    if len(plan.queries) < settings.openings:
        notes.append(
            f"There are {len(plan.queries)} openings or queries, fewer than the"
            f" {settings.openings} asked for."
        )
    for law in settings.laws:
        if law not in plan.laws:
            notes.append(f"The vectors are not calibrated for the law {law}.")
    if plan.refused:
        notes.append(
            f"No dose within the bounds of the calibration strengthens {', '.join(plan.refused)}:"
            " written unsteered, and counted so in probabilities and cosines."
        )
    for number, reader in enumerate(readers):
        if reader.unknown:
            # Means over emotions are by the main judge, so they hold what only another lacks.
            left = "" if number else ", and they are in no mean over emotions"
            notes.append(
                f"The judge {reader.name} has no labels for {', '.join(reader.unknown)}: what it"
                f" finds of them is not known{left}."
            )
    return notes
