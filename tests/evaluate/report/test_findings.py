"""Sentences and choices of the report follow from the figures."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emokernel.evaluate.report import about, figures, findings
from emokernel.evaluate.report.markdown import escaped
from emokernel.evaluate.report.view import View
from emokernel.evaluate.results import (
    Ceiling,
    Consistency,
    EmotionPoint,
    Goal,
    Interval,
    LawDose,
    Measures,
    Results,
)

UNKNOWN = Interval(math.nan, math.nan, math.nan)


def _results(**parts: object) -> Results:
    return replace(Results({}, [], [], [], [], [], [], []), **parts)


def _dose(intended: Interval, surprise: Interval = UNKNOWN) -> LawDose:
    both = {"add": 0.2, "preserve": 0.2}
    return LawDose(0.1, ["joy"], both, both, intended, surprise, UNKNOWN)


WINS, LOSES = Interval(0.02, 0.01, 0.03), Interval(-0.02, -0.03, -0.01)
AHEAD, BEHIND = Interval(0.01, -0.01, 0.03), Interval(-0.01, -0.03, 0.01)


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([AHEAD, BEHIND, BEHIND], "at 1 of 3 doses; the interval of the difference includes 0 at 3."
         " Neither law is shown to be better."),
        ([LOSES, AHEAD], "at 1 of 2 doses; the interval of the difference includes 0 at 1. Preserve"
         " wins nowhere; add wins at 1 dose."),
        ([WINS, WINS, LOSES], "at 2 of 3 doses; the interval of the difference includes 0 at 0."
         " Preserve wins at 2 doses and loses at 1."),
        ([WINS, AHEAD], "Preserve wins at 1 dose and loses nowhere."),
        ([UNKNOWN], "cannot be said: no dose gave figures."),
    ],
)  # fmt: skip
def test_laws_are_compared_by_their_intervals(differences: list[Interval], said: str) -> None:
    sentence = findings.laws(View(_results(laws=[_dose(each) for each in differences])))[0]
    assert sentence.startswith("At equal dose, ")
    assert sentence.endswith(said)


def test_less_surprise_is_a_win() -> None:
    sentences = findings.laws(View(_results(laws=[_dose(UNKNOWN, LOSES)])))
    assert sentences[1].startswith("Preserve has the less surprising text")
    assert sentences[1].endswith("Preserve wins at 1 dose and loses nowhere.")


def test_verdict_counts_goals_and_names_the_missed() -> None:
    goals = [Goal("a", "1", "2", False), Goal("b", "1", "2", True), Goal("c", "1", "2", False)]
    said = findings.verdict(View(_results(goals=goals)))
    assert said == "1 of 3 goals hold. Not reached: a; c."
    assert findings.verdict(View(_results(goals=goals[1:2]))) == "The goal holds."
    assert findings.verdict(View(_results())) == ""


def _consistency(mode: str, mean: float, template: str = "", intensity: float = 1.0) -> Consistency:
    cosine = Interval(mean, mean - 0.02, mean + 0.02)
    return Consistency(
        mode, template, intensity, "one", cosine, mean, Interval(0, -0.1, 0.1), 0.01, 0.1, 0, 0,
        1.1, 0.9, 24, [],
    )  # fmt: skip


def test_comparisons_take_the_best_template_and_the_highest_ceiling() -> None:
    rows = [
        _consistency("prompt", 0.1, "first", 0.5),
        _consistency("prompt", 0.3, "first"),
        _consistency("prompt", 0.4, "second"),
        _consistency("prompt", math.nan, "third"),
        _consistency("vector", 0.5),
    ]
    ceilings = [
        Ceiling("one", "text", least, Interval(mean, mean, mean), mean, [])
        for least, mean in ((1, 0.6), (30, 0.8), (50, math.nan))
    ]
    view = View(_results(consistency=rows, ceilings=ceilings))
    assert view.full() == {"prompt": rows[2], "vector": rows[4]}
    assert view.by_intensity("prompt") == rows[:2]
    assert view.ceiling().least == 30
    first, second, compared = findings.consistency(view)
    assert first.startswith("By prompt (second): mean cosine 0.40 [0.38, 0.42], 50\xa0% of the")
    assert second.startswith("By vector: mean cosine 0.50")
    assert compared == (
        "By vector the mean cosine is 0.10 higher than by prompt (0.50 against 0.40); the two"
        " intervals do not overlap."
    )


def test_no_ceiling_is_said() -> None:
    view = View(_results(consistency=[_consistency("vector", 0.5)]))
    assert findings.consistency(view)[1].startswith("No ceiling is known for the judge one")


def _point(
    emotion: str, mode: str, mean: float, template: str = "", **more: object
) -> EmotionPoint:
    interval = Interval(mean, mean, mean)
    measures = Measures({"one": interval}, 9, 1.25, {}, 1, 0, interval, interval, 0, 0, 9)
    fields = {"law": "", "by": "", "strength": 0.0, "divergence": 0.0, **more}
    return EmotionPoint(emotion, mode, measures=measures, template=template, **fields)


def test_emotions_are_compared_with_a_template_that_asks_for_all() -> None:
    vector = {"law": "add", "by": "strength", "strength": 1.0}
    points = [
        _point("joy", "prompt", 0.9, "joy alone"),
        _point("joy", "prompt", 0.2, "weak"),
        _point("fear", "prompt", 0.2, "weak"),
        _point("joy", "prompt", 0.3, "strong"),
        _point("fear", "prompt", 0.3, "strong"),
        _point("joy", "vector", 0.4, **vector),
        _point("fear", "vector", 0.25, **vector),
        _point("fear", "vector", 0.9, **{**vector, "by": "dose"}),
    ]
    view = View(_results(emotions=points))
    assert view.emotion_template == "strong"
    assert findings.emotions(view) == [
        "At strength 1.0 the intended emotion is more probable by vector than by prompt for 1 of 2"
        " emotions, at a mean perplexity of 1.25× that of unsteered text.",
        "Not for: fear.",
    ]


def test_curves_begin_at_the_unsteered_texts() -> None:
    points = [
        _point("joy", "vector", 0.4, law="add", by="strength", strength=1.0),
        _point("joy", "vector", 0.1, law="add", by="strength", strength=-1.0),
        _point("joy", "vector", 0.3, law="preserve", by="strength", strength=1.0),
        _point("joy", "vector", 0.9, law="add", by="dose", strength=0.5),
        _point("joy", "unsteered", 0.2),
    ]
    view = View(_results(emotions=points, about={"vectors": {"law": "preserve"}}))
    assert [p.measures.intended["one"].mean for p in view.curve("joy", "add")] == [0.1, 0.2, 0.4]
    assert view.at("joy", "vector") is points[2]


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (figures.number(-0.004), "0.00"),
        (figures.number(-0.5, signed=True), "−0.50"),
        (figures.number(0.5, signed=True), "+0.50"),
        (figures.number(-math.inf), "−∞"),
        (figures.times(1.316), "1.32×"),
        (figures.times(math.nan), "–"),
        (figures.percent(0.123, 1), "12.3\xa0%"),
        (figures.interval(Interval(0.5, math.nan, math.nan)), "0.50"),
        (figures.interval(None), "–"),
        (figures.probability(0.0005), "< 0.001"),
        (figures.duration(3725), "1 h 2 min"),
        (figures.plain({"a_b": [1, 2.5, True, None]}), "a b: 1, 2.5, yes, –"),
        (figures.counted(1, "dose"), "1 dose"),
    ],
)
def test_figures_as_people_read_them(shown: str, said: str) -> None:
    assert shown == said


def test_unknown_facts_are_shown_too() -> None:
    sections = about.sections({"weather": {"wind_speed": 3}, "luck": "good", "model": "m"})
    assert sections["Weather"] == [("wind speed", "3")]
    assert ("luck", "good") in sections["Run"]


@example("a](b) \\](c) \\\\|")
@given(st.text(alphabet="ab|\\\n\r`*_[]()<>&~#$ \t\u2028é漢"))
def test_escaped_text_stays_in_its_cell(text: str) -> None:
    shown = escaped(text)
    assert len(shown.splitlines()) <= 1
    assert "<" not in shown
    active = re.sub(r"\\.", "x", shown)
    assert not set("|`*_") & set(active)
    assert "](" not in active
