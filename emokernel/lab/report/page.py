"""The report as sections of plain data: every figure and word of it is chosen here, once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from emokernel.lab.report import findings, plots, tables
from emokernel.lab.report.figures import duration, plain, worded
from emokernel.lab.report.parts import Facts, Part, Section, Table, Text
from emokernel.lab.report.plots import Chart
from emokernel.lab.report.view import View

_ORDER = ("model", "vectors", "settings", "machine", "versions")
_TITLES = {
    "topic": "Topic adherence of unsteered answers",
    "sentences": "Sentence similarity of unsteered answers",
}
ELSEWHERE = ("judges", "notes")
TWELVE_STATES = (
    "Twelve states of valence and arousal are asked for. A judge names the emotion of each text; a"
    " table gives that name a place; the cosine says how near its direction is to what was asked"
    " for. The floor shuffles the states. The ceiling is human text under the same judge."
)
_GPT_4 = (
    "In AI with Emotions GPT-4 reaches a mean cosine of about 0.75, asked by prompt. The kind of"
    " experiment may be compared: whether twelve states are told apart, and by what. Numbers may"
    " not: classifier, table of labels, prompts and eight of the ten questions are others here, and"
    " a text whose label has no place counts as 0. Like is compared with like within this report:"
    " prompt, vector, floor and ceiling under one judge."
)


def title(view: View) -> str:
    """With the name of the model."""
    model = view.results.about.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    return f"Emotion steering of {plain(name or 'a language model')}: evaluation"


def sections(view: View) -> list[Section]:
    """All of it, in the order in which it is read."""
    results = view.results
    notes = [Text(plain(note), "note") for note in results.about.get("notes", ())]
    measured = {
        "consistency": (
            "Consistency: asked for and found",
            Text(TWELVE_STATES),
            Text(_GPT_4, "note"),
            *map(Text, findings.no_ceiling(view)),
            tables.conditions(view, view.judge),
            plots.circumplex(view),
            plots.intensity(view),
            tables.states(view),
            tables.labels(view),
        ),
        "emotions": (
            "Emotions: by prompt and by vector",
            *map(Text, findings.emotions(view)),
            tables.emotions(view),
            tables.costs(view),
            plots.strengths(view),
            plots.measures(view),
        ),
        "laws": (
            "Dose and laws: add against preserve",
            *map(Text, findings.laws(view)),
            tables.laws(view),
            plots.doses(view),
        ),
        "judges": (
            "Judges",
            *map(Text, findings.one_judge(view)),
            tables.judges(view),
            tables.agreement(view),
            tables.judged(view),
            *(tables.conditions(view, judge) for judge in view.judges[1:]),
        ),
        "samples": (
            "Samples: answers to one opening or question, written under one seed",
            *map(tables.samples, results.samples),
        ),
    }
    return [
        section("verdict", "Asked and measured",
                *(Text(each, "lead") for each in findings.verdict(view)), tables.goals(view),
                *notes),
        *(section(key, *parts) for key, parts in measured.items()),
        Section("run", "What was evaluated", facts(results.about)),
        Section("definitions", "Definitions", definitions()),
    ]  # fmt: skip


def charts(page: Sequence[Section]) -> list[Chart]:
    """All charts of a page."""
    return [part for section in page for part in section.parts if isinstance(part, Chart)]


def section(key: str, title: str, *parts: Part | None) -> Section:
    """Without the parts that hold nothing; one that holds no figures says so."""
    filled = [part for part in parts if part and (part.rows if isinstance(part, Table) else True)]
    if all(isinstance(part, Text) for part in filled):
        filled.append(Text("Not measured in this run.", "muted"))
    return Section(key, title, filled)


def facts(about: Mapping[str, Any]) -> list[Facts]:
    """What is known of a run, known lists first; single facts come last, together."""
    lists: list[Facts] = []
    single: list[tuple[str, str, str]] = []
    for key in dict.fromkeys((*_ORDER, *about)):
        value = about.get(key)
        if value is None or key in ELSEWHERE:
            continue
        if isinstance(value, Mapping):
            rows = [(worded(name), plain(fact), "") for name, fact in value.items()]
            lists.append(Facts(_TITLES.get(key, worded(key).capitalize()), rows))
        elif key == "seconds":
            single.append(("time taken", duration(value), ""))
        else:
            name = "table of coordinates" if key == "coordinates" else worded(key)
            single.append((name, plain(value), ""))
    return [*lists, Facts("Run", single)] if single else lists


@cache
def definitions() -> list[Part]:
    """What every figure means, the sources, and what is our own choice."""
    text = (files("emokernel.lab.report") / "definitions.json").read_text("utf-8")
    read = json.loads(text)
    return [
        Facts("Figures", [(term, meaning, "") for term, meaning in read["definitions"]]),
        Facts("Sources", [tuple(row) for row in read["sources"]]),
        *(Text(choice, "note") for choice in read["own_choices"]),
    ]
