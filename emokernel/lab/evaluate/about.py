"""What was evaluated, with what and how, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emokernel.lab.evaluate.analyse import Judged
from emokernel.lab.evaluate.plan import Plan
from emokernel.lab.measure.classifiers import has_calibrated
from emokernel.machine import machine, versions

_FEW_QUERIES, _FEW_SEEDS = 20, 3


def about(plan: Plan, judges: Sequence[Judged]) -> dict[str, Any]:
    """Vectors, judges, settings, notes, machine and versions."""
    return {
        "vectors": _vectors(plan),
        "judges": [_judge(plan, judged, number) for number, judged in enumerate(judges)],
        "coordinates": plan.prompting.coordinates.name,
        "settings": _settings(plan),
        "notes": _notes(plan, judges),
        "machine": {name: value for name, value in machine().items() if value is not None},
        "versions": {name: value for name, value in versions().items() if value is not None},
    }


def _vectors(plan: Plan) -> dict[str, Any]:
    steering = plan.steering
    report = steering.report()
    return {
        "emotions": list(steering.vectors.names),
        "digest": steering.vectors.digest()[:16],
        "site": report.site,
        "law": plan.law,
        "dose": plan.dose,
        "mapping": steering.mapping,
        "strength 1.0": report.strengths,
    }


def _judge(plan: Plan, judged: Judged, number: int) -> dict[str, Any]:
    judge = judged.reader.judge
    chose = has_calibrated(judge, plan.steering.vectors)
    return {
        "name": judge.name,
        "role": "main" if number == 0 else "second",
        "labels": len(judge.labels),
        "note": "It chose the strengths, so it is no witness for them." if chose else "",
    }


def _settings(plan: Plan) -> dict[str, Any]:
    settings = plan.settings
    sampling = settings.sampling
    return {
        "openings": len(plan.queries),
        "questions": len(plan.questions),
        "seeds": settings.seeds,
        "intensities": list(settings.intensities),
        "strengths": list(settings.strengths),
        "doses": list(settings.doses),
        "laws": list(plan.laws),
        "templates": list(plan.templates),
        "sampling": f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, at most"
        f" {sampling.max_new_tokens} tokens",
    }


def _notes(plan: Plan, judges: Sequence[Judged]) -> list[str]:
    notes = []
    if plan.steering.calibration is None:
        notes.append("The vectors are not calibrated: strength 1.0 is the vector as it is.")
    few = min(len(plan.questions), len(plan.queries))
    if few < _FEW_QUERIES or plan.settings.seeds < _FEW_SEEDS:
        notes.append(
            f"There are {few} openings or questions and {plan.settings.seeds} seeds. With fewer"
            f" than {_FEW_QUERIES} and {_FEW_SEEDS} the intervals are too narrow."
        )
    if len(plan.queries) < plan.settings.openings:
        notes.append(
            f"There are {len(plan.queries)} openings or queries, fewer than the"
            f" {plan.settings.openings} asked for."
        )
    for law in plan.settings.laws:
        if law not in plan.laws:
            notes.append(f"The vectors are not calibrated for the law {law}.")
    if plan.refused:
        notes.append(
            f"No dose within the bounds of the calibration strengthens {', '.join(plan.refused)}:"
            " written unsteered, and counted so in probabilities and cosines."
        )
    for judged in judges:
        if judged.reader.unknown:
            notes.append(
                f"The judge {judged.name} has no labels for {', '.join(judged.reader.unknown)}."
            )
    return notes
