"""What the demo measured as tables, and the page that they stand on."""

from __future__ import annotations

from collections.abc import Sequence

from emokernel.bench.results import Row
from emokernel.bench.variants import VARIANTS
from emokernel.demo.showing.batch import Batch
from emokernel.demo.showing.graded import Graded
from emokernel.lab.report import findings, plots, tables
from emokernel.lab.report.figures import MISSING, interval, number, plain
from emokernel.lab.report.page import ELSEWHERE, TWELVE_STATES, definitions, facts, section
from emokernel.lab.report.parts import SampleGroup, Section, Table, Text
from emokernel.lab.report.view import View

_HEARD = 2  # labels of a state


def mean_cosine(view: View) -> str:
    """Of all states, with its floor and its ceiling."""
    (row,) = view.full().values()
    human = view.ceiling()
    above = f"; human text under the same judge has {number(human.cosine.mean)}" if human else ""
    return (
        f"Mean cosine of {row.texts:,} texts: {interval(row.cosine)}, with the states shuffled"
        f" {interval(row.floor)}{above}."
    )


def disc(view: View) -> Table:
    """Each of the twelve states: what the judge hears most often, and how near that lies."""
    labels = {state: cells[0].split(", ") for state, *cells in tables.labels(view).rows}
    heard = {state: ", ".join(names[:_HEARD]) for state, names in labels.items()}
    found = tables.states(view)
    return Table(
        f"Twelve states by vector at intensity 1, and what the judge {view.judge} hears",
        ["State (valence, arousal)", "Heard most often", "Cosine", "Human text"],
        [[state, heard[state], cosine, human] for state, cosine, human in found.rows],
        (1,),
    )


def strengths(graded: Graded, judge: str) -> Table:
    """One emotion from 0 to 1."""
    return Table(
        f"{graded.emotion.capitalize()} from 0 to 1: the probability of it by the judge {judge}, in"
        f" {graded.texts} texts at each strength and in the one that is shown (“{graded.query}”)",
        ["Strength", "Mean", "This text", "Text"],
        [
            [number(step.strength), interval(step.mean), number(step.probability), plain(step.text)]
            for step in graded.steps
        ],
        (3,),
    )


def times(rows: Sequence[Row], where: str) -> Table:
    """Time per token; of the unpatched model measured twice the ratio is noise."""
    shown = []
    for row in rows:
        if "token_ms" in row:
            told = row.get("ratio_told", MISSING)
            if "noise" in row:
                low, high = row["noise"]
                told = f"noise: {number(low, 3)} to {number(high, 3)}"
            shown.append([VARIANTS[row["variant"]].label, number(row["token_ms"]), told])
    return Table(
        f"Time per token, one sequence on {where}; against the unpatched model, paired by round,"
        " with a 95 % interval",
        ["Way", "ms", "Against unpatched"],
        shown,
        (2,),
    )


def filled(table: Table) -> Table:
    """Without the columns in which nothing was measured."""
    kept = [at for at in range(len(table.columns)) if any(row[at] != MISSING for row in table.rows)]
    return Table(
        table.caption,
        [table.columns[at] for at in kept],
        [[row[at] for at in kept] for row in table.rows],
        [place for place, at in enumerate(kept) if at in table.words],
        table.totalled,
    )


def title(view: View) -> str:
    """With the name of the model."""
    return f"Emotion steering of {plain(view.results.about['model']['name'])}: a demo"


def sections(view: View, batch: Batch, graded: Graded, timed: Table) -> list[Section]:
    """All of it, in the order in which it is shown."""
    results, texts = view.results, [*batch.texts.items()]
    notes = [Text(plain(note), "note") for note in results.about["notes"]]
    about = {key: value for key, value in results.about.items() if key not in ELSEWHERE}
    return [
        section("batch", "One question, one batch", Text(batch.about),
                SampleGroup(batch.question, 0, texts, [], [])),
        section("states", "Twelve states: asked for and heard", Text(TWELVE_STATES),
                Text(mean_cosine(view)), *map(Text, findings.no_ceiling(view)), disc(view),
                plots.circumplex(view),
                *(filled(tables.conditions(view, judge)) for judge in view.judges)),
        section("strength", "One emotion from 0 to 1", strengths(graded, view.judge)),
        section("emotions", "Emotions", filled(tables.emotions(view)), filled(tables.costs(view)),
                plots.strengths(view)),
        section("time", "Time per token", timed),
        section("samples", "Samples: answers to one question or opening, written under one seed",
                *map(tables.samples, results.samples)),
        section("run", "What was measured", *notes, tables.judges(view), *facts(about)),
        section("definitions", "Definitions", *definitions()),
    ]  # fmt: skip
