"""The evaluation: writes or goes on with the texts in a folder, and says what they show."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.evaluate import doses
from emokernel.evaluate.about import about
from emokernel.evaluate.analyse import Analysis, Judged
from emokernel.evaluate.ceiling import ceiling, confusion, shipped
from emokernel.evaluate.classifiers import (
    LabelsOf,
    TextClassifier,
    columns_of,
    has_calibrated,
    same_classifier,
)
from emokernel.evaluate.consistency import points_of
from emokernel.evaluate.divergence import MOST_REQUESTS
from emokernel.evaluate.encoding import encoded
from emokernel.evaluate.goals import goals
from emokernel.evaluate.identity import identity
from emokernel.evaluate.plan import Cell, Plan, Settings
from emokernel.evaluate.prompting import Prompting
from emokernel.evaluate.results import Ceiling, Results
from emokernel.evaluate.writing import Reader, Record, Writer
from emokernel.journal import Journal
from emokernel.steering import patch
from emokernel.vectors import EmotionVectors
from emokernel.vectors.fingerprint import check_made_from

GENERATIONS = "generations.jsonl"
# Of the ceiling; labels with fewer texts say little.
_LEAST_TEXTS = (1, 30)
_TEXTS_OF_DOSE = 16
_SHIPPED = "GoEmotions test, comments with one label"


def evaluate(
    model: Any,
    tokenizer: Any,
    vectors: EmotionVectors,
    prompting: Prompting,
    folder: Path,
    *,
    judge: TextClassifier,
    second: TextClassifier | None = None,
    labels_of: LabelsOf | None = None,
    human: tuple[str, Sequence[str], Sequence[str]] | None = None,
    settings: Settings | None = None,
    law: str | None = None,
    mapping: str | None = None,
    accept: Callable[[str], bool] = lambda text: True,
    model_facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    other_model: bool = False,
    restart: bool = False,
    progress: bool = True,
) -> Results:
    """Evaluate the steering of ``model`` with ``vectors``: both experiments, docs/evaluation.md.

    Every text goes into ``folder``/generations.jsonl as soon as it is judged, and a run that is
    called again goes on there; the settings that decide what a text is have to be the same, while
    there may be more seeds, strengths and so on. ``judge`` reads the texts, ``second`` too, so that
    the judge is judged. The table of coordinates is that of ``prompting``. ``labels_of``: which
    labels of a judge count for an emotion. ``human``: (source, texts, labels) that the ceiling is
    measured on; the embedded judges have their own. ``law``, ``mapping``: see `patch`. ``accept``:
    texts that it refuses are drawn again. ``model_facts`` and ``notes`` are for the report.
    ``other_model``: whether vectors that were made from another model will do.

    Raises EmokernelError for a judge that has chosen the strengths or does not know an emotion, for
    vectors of another model, a model that answers nothing, and a folder of another run.
    """
    settings, labels_of = settings or Settings(), labels_of or {}
    if second is not None and same_classifier(judge, second):
        raise EmokernelError(f"both judges are {judge.name!r}: give a second one that is another")
    if has_calibrated(judge, vectors):
        raise EmokernelError(
            f"the judge {judge.name!r} has chosen these strengths, so it would find what it was"
            " asked for: evaluate with another"
        )
    check_made_from(vectors, model, other_model)
    for emotion in vectors.names:
        columns_of(judge, emotion, labels_of)
    coordinates = prompting.coordinates
    judges = [
        Judged(Reader.of(each, vectors.names, labels_of), points_of(each, coordinates, labels_of))
        for each in (judge, second)
        if each is not None
    ]
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    steering = patch(
        model, vectors, slots=MOST_REQUESTS, law=law, mapping=mapping, coordinates=coordinates
    )
    try:
        plan = Plan(steering, prompting, settings)
        identical = identity(model, steering, prompting, settings.sampling, judges)
        journal = Journal(folder / GENERATIONS, identical, restart=restart)
        writer = Writer(
            model, tokenizer, steering, [each.reader for each in judges], settings, journal,
            special_tokens=prompting.special_tokens, accept=accept, progress=progress,
        )  # fmt: skip
        cells, plain, moved = _write(model, tokenizer, plan, writer, journal, progress)
        facts, anchors = about(plan, judges), writer.anchors()
    finally:
        steering.unpatch()
    analysis = Analysis(cells, plain, judges, plan.questions, plan.queries, moved)
    points = analysis.emotions(vectors.names)
    ceilings = _ceilings(judges, prompting, labels_of, human)
    consistency, monotone = analysis.consistency(), analysis.monotone(points)
    return Results(
        about={
            "model": dict(model_facts or {}),
            **facts,
            "topic": anchors,
            "notes": [*notes, *facts["notes"]],
            "seconds": time.monotonic() - started,
        },
        ceilings=ceilings,
        consistency=consistency,
        emotions=points,
        laws=analysis.laws(),
        monotone=monotone,
        agreement=analysis.agreement(),
        goals=goals(judge.name, plan.law, ceilings, consistency, points, monotone),
        samples=analysis.samples(plan.law),
    )


def _write(
    model: Any, tokenizer: Any, plan: Plan, writer: Writer, journal: Journal, progress: bool
) -> tuple[dict[Cell, list[Record]], list[Record], dict[tuple[str, str, float], float]]:
    """(cells with their records, the unsteered records, {(emotion, law, strength): KL})."""
    plain = writer.unsteered(plan.unsteered(), (plan.questions, plan.queries))
    pairs = [writer.pair(record) for record in plain if record["answer"].strip()]
    texts = encoded(tokenizer, pairs[:_TEXTS_OF_DOSE], special_tokens=plan.prompting.special_tokens)
    moved = doses.of_strengths(model, plan, texts, journal, progress)
    equal = doses.equal(model, plan, texts, journal, progress)
    parts = {
        "twelve states": list(plan.states()),
        "emotions by prompt": list(plan.emotions_by_prompt()),
        "emotions by strength": list(plan.emotions_by_strength()),
        "emotions by dose": list(plan.emotions_by_dose(equal)),
    }
    for title, cells in parts.items():
        writer.write(cells, title)
    return {c: writer.records(c) for cells in parts.values() for c in cells}, plain, moved


def _ceilings(
    judges: Sequence[Judged],
    prompting: Prompting,
    labels_of: LabelsOf,
    human: tuple[str, Sequence[str], Sequence[str]] | None,
) -> list[Ceiling]:
    """Of every judge that there is human text for."""
    found = []
    for judged in judges:
        judge, source = judged.reader.judge, _SHIPPED
        counts = shipped(judge)
        if human is not None:
            source, texts, labels = human
            counts = confusion(judge, texts, labels)
        if counts is not None:
            most = max(sum(of.values()) for of in counts.values())
            found += [
                ceiling(
                    counts,
                    prompting.coordinates,
                    judge=judge.name,
                    source=source,
                    labels_of=labels_of,
                    least=least,
                )
                for least in _LEAST_TEXTS
                if least <= most
            ]
    return found
