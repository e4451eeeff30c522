"""The evaluation: writes or goes on with the texts in a folder, and says what they show."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.lab.evaluate.about import about, identity
from emokernel.lab.evaluate.analyse import Analysis
from emokernel.lab.evaluate.ceiling import ceiling, confusion, shipped
from emokernel.lab.evaluate.consistency import Reader
from emokernel.lab.evaluate.dosing import Doses
from emokernel.lab.evaluate.goals import goals
from emokernel.lab.evaluate.plan import EMOTIONS, Cell, Plan
from emokernel.lab.evaluate.prompting import Prompting
from emokernel.lab.evaluate.results import Ceiling, Results
from emokernel.lab.evaluate.settings import Settings
from emokernel.lab.evaluate.writing import Record, Writer
from emokernel.lab.measure.classifiers import (
    LabelsOf,
    TextClassifier,
    check_named,
    columns_of,
    has_calibrated,
    knows,
    same_classifier,
)
from emokernel.lab.measure.equal_doses import MOST_REQUESTS
from emokernel.lab.measure.fingerprint import check_made_from
from emokernel.lab.measure.journal import Journal
from emokernel.lab.measure.sentences import SentenceEncoder
from emokernel.steering import patch
from emokernel.vectors import EmotionVectors

GENERATIONS = "generations.jsonl"
# Of the ceiling; labels with fewer texts say little.
_LEAST_TEXTS = (1, 30)
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
    sentences: SentenceEncoder | None = None,
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
    measured on; those that ship have their own. ``law``, ``mapping``: see `patch`. ``sentences``:
    reads whether texts keep to the topic, besides the model itself. ``accept``: texts that it
    refuses are drawn again. ``model_facts`` and ``notes`` are for the report.
    ``other_model``: whether vectors that were made from another model will do.

    Emotions that a judge has no label for are written, and left out of what it finds. Raises
    EmokernelError for a judge that has chosen the strengths or knows no emotion at all, for vectors
    of another model, a model that answers nothing, and a folder of another run.
    """
    settings, labels_of = settings or Settings(), labels_of or {}
    check_inputs(vectors, judge, second, labels_of)
    check_made_from(vectors, model, other_model)
    coordinates = prompting.coordinates
    readers = [Reader.of(judge, vectors.names, labels_of, coordinates)]
    if second is not None:  # what is said of labels is of the first judge, unless it knows better
        of_second = {name: its for name, its in labels_of.items() if name not in second.labels}
        readers.append(Reader.of(second, vectors.names, of_second, coordinates))
    ceilings = [c for each in readers for c in _ceilings(each.judge, prompting, labels_of, human)]
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    steering = patch(
        model, vectors, slots=MOST_REQUESTS, law=law, mapping=mapping, coordinates=coordinates
    )
    try:
        plan = Plan(steering, prompting, settings, readers[0].emotions)
        identical = identity(model, plan, readers)
        journal = Journal(folder / GENERATIONS, identical, restart=restart)
        writer = Writer(
            model, tokenizer, plan, readers, journal, accept=accept, sentences=sentences,
            progress=progress,
        )  # fmt: skip
        plain, cells = _write(model, tokenizer, plan, writer, journal, progress)
        facts, anchors = about(plan, readers), writer.anchors()
    finally:
        steering.unpatch()
    analysis = Analysis(plain, cells, readers, plan)
    points = analysis.emotions()
    consistency, monotone = analysis.consistency(), analysis.monotone(points)
    every = [record for records in (plain, *cells.values()) for record in records]
    earlier = [
        f"{writer.known} texts were there from an earlier run; the time taken is that of the last."
    ]
    return Results(
        about={
            "model": {
                **(model_facts or {}),
                "dtype": str(model.dtype).removeprefix("torch."),
                "device": str(model.device),
            },
            **facts,
            **anchors,
            **({"sentence encoder": sentences.name} if sentences else {}),
            "texts": len(every),
            "texts drawn again": sum(record["redrawn"] for record in every),
            "notes": [*notes, *facts["notes"], *(earlier if writer.known else ())],
            "seconds": time.monotonic() - started,
        },
        ceilings=ceilings,
        consistency=consistency,
        emotions=points,
        laws=analysis.laws(),
        monotone=monotone,
        agreement=analysis.agreement(),
        goals=goals(
            judge.name,
            plan.law,
            ceilings,
            consistency,
            points,
            monotone,
            analysis.advantages(),
            analysis.intended(plan.law),
            analysis.kept(plan.law),
        ),
        samples=analysis.samples(plan.law),
        judged=analysis.judged(plan.law),
    )


def check_inputs(
    vectors: EmotionVectors,
    judge: TextClassifier,
    second: TextClassifier | None,
    labels_of: LabelsOf,
) -> None:
    """What `evaluate` refuses of its arguments, whatever the model is: EmokernelError."""
    need("sklearn")
    if second is not None and same_classifier(judge, second):
        raise EmokernelError(f"both judges are {judge.name!r}: give a second one that is another")
    if has_calibrated(judge, vectors):
        raise EmokernelError(
            f"the judge {judge.name!r} has chosen these strengths, so it would find what it was"
            " asked for: evaluate with another"
        )
    check_named(labels_of, vectors.names)
    for emotion in labels_of:
        columns_of(judge, emotion, labels_of)
    if not knows(judge, vectors.names, labels_of):
        columns_of(judge, vectors.names[0], labels_of)  # which says what to do


def _write(
    model: Any, tokenizer: Any, plan: Plan, writer: Writer, journal: Journal, progress: bool
) -> tuple[list[Record], dict[Cell, list[Record]]]:
    """The unsteered texts and those of every cell, from earlier where they are known."""
    if progress:
        tqdm.write(cost(plan), file=sys.stderr)
    unsteered = plan.unsteered()
    plain = writer.unsteered(unsteered, (plan.questions, plan.queries))
    pairs = [writer.pair(record) for record in plain if record["answer"].strip()]
    doses = Doses(model, tokenizer, plan, pairs, journal, progress=progress)
    cells = [
        *plan.states(),
        *plan.emotions_by_prompt(),
        *plan.emotions_by_strength(doses.of_strengths()),
        *plan.emotions_by_dose(doses.equal()),
    ]
    writer.write(cells, "writing")
    found = writer.adhering([unsteered, *(cell for cell in cells if cell.experiment == EMOTIONS)])
    plain = found.pop(unsteered)
    return plain, {cell: found.get(cell) or writer.records(cell) for cell in cells}


def cost(plan: Plan) -> str:
    """What is going to be written, before it is."""
    tokens = plan.settings.sampling.max_new_tokens
    return (
        f"{plan.texts:,} texts of at most {tokens} tokens, {plan.texts * tokens:,} tokens in all,"
        " are the whole of it; each is written, and read by the model and the judges. How long that"
        " takes here shows from the first batches on."
    )


def _ceilings(
    judge: TextClassifier,
    prompting: Prompting,
    labels_of: LabelsOf,
    human: tuple[str, Sequence[str], Sequence[str]] | None,
) -> list[Ceiling]:
    source, counts = _SHIPPED, shipped(judge)
    if human is not None:
        source, texts, labels = human
        counts = confusion(judge, texts, labels)
    if counts is None:
        return []
    found = (
        ceiling(
            counts, prompting.coordinates, judge=judge.name, source=source, labels_of=labels_of,
            least=least,
        )
        for least in _LEAST_TEXTS
    )  # fmt: skip
    return [each for each in found if each is not None]
