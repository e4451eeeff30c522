"""Sentences and choices of the report follow from the figures."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emokernel.lab.evaluate.results import (
    Ceiling,
    Consistency,
    EmotionPoint,
    Goal,
    Interval,
    LawDose,
    Measures,
    Results,
    Sample,
    Sentences,
)
from emokernel.lab.report import figures, findings, page, plots, tables
from emokernel.lab.report.view import View
from emokernel.lab.report.write import escaped

UNKNOWN = Interval(math.nan, math.nan, math.nan)


def _results(**parts: object) -> Results:
    return replace(Results({}, [], [], [], [], [], [], []), **parts)


def _dose(intended: Interval, surprise: Interval = UNKNOWN) -> LawDose:
    both = {"add": 0.2, "preserve": 0.2}
    return LawDose(0.1, both, ["joy"], both, both, intended, surprise, UNKNOWN)


WINS, LOSES = Interval(0.02, 0.01, 0.03), Interval(-0.02, -0.03, -0.01)
AHEAD, BEHIND = Interval(0.01, -0.01, 0.03), Interval(-0.01, -0.03, 0.01)


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([AHEAD, BEHIND, BEHIND], ", at equal dose: preserve is ahead at 1 of 3 doses; the interval"
         " of the difference includes 0 at 3; neither law is shown to be better."),
        ([LOSES, AHEAD], "preserve is ahead at 1 of 2 doses; the interval of the difference"
         " includes 0 at 1; preserve wins at 0, add at 1."),
        ([WINS, WINS, LOSES], "at 2 of 3 doses; the interval of the difference includes 0 at 0;"
         " preserve wins at 2, add at 1."),
        ([WINS, AHEAD], "preserve wins at 1, add at 0."),
        ([UNKNOWN], ": no dose gave figures."),
    ],
)  # fmt: skip
def test_laws_are_compared_by_their_intervals(differences: list[Interval], said: str) -> None:
    sentence = findings.laws(View(_results(laws=[_dose(each) for each in differences])))[0]
    assert sentence.startswith("Probability of the intended emotion")
    assert sentence.endswith(said)


def test_less_surprise_is_a_win() -> None:
    sentences = findings.laws(View(_results(laws=[_dose(UNKNOWN, LOSES)])))
    assert sentences[1].startswith("Surprise, of which less is better, at equal dose: preserve is")
    assert sentences[1].endswith("preserve wins at 1, add at 0.")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([], ""),
        ([True], "Reached: 1 of the 1 that were measured."),
        ([False, True, False], "Reached: 1 of the 3 that were measured. Not reached: a; c."),
        ([True, None, True], "Reached: 2 of the 2 that were measured. Not measured: b."),
        ([False, None, True, None], "Reached: 1 of the 2 that were measured. Not reached: a. Not"
         " measured: b; d."),
        ([None, None], "Reached: 0 of the 0 that were measured. Not measured: a; b."),
    ],
)  # fmt: skip
def test_verdict_counts_measured_goals_and_names_the_others(
    held: list[bool | None], said: str
) -> None:
    goals = [Goal(name, "1", "2", holds) for name, holds in zip("abcd", held, strict=False)]
    assert "".join(findings.verdict(View(_results(goals=goals)))) == said


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
    table = tables.conditions(view, "one")
    assert [row[:3] for row in table.rows[1:4:2]] == [
        ["by prompt: second", "0.40 [0.38, 0.42]", "50\xa0%"],
        ["by vector", "0.50 [0.48, 0.52]", "62\xa0%"],
    ]
    assert table.rows[-1][:2] == ["ceiling (text)", "0.80 [0.80, 0.80]"]
    assert findings.no_ceiling(view) == []


def test_no_ceiling_is_said() -> None:
    view = View(_results(consistency=[_consistency("vector", 0.5)]))
    assert findings.no_ceiling(view)[0].startswith("No ceiling is known for the judge one")


def _point(
    emotion: str, mode: str, mean: float, template: str = "", **more: object
) -> EmotionPoint:
    interval = Interval(mean, mean, mean)
    measures = Measures(
        {"one": interval}, {"one": interval}, 9, 1.25, {}, 1, 0, 0, interval, interval, 0, 0, 9
    )
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
    table = tables.emotions(view)
    assert "judge one, prompts strong;" in table.caption
    assert [row[2][:4] for row in table.rows] == ["0.30"] * 3


def test_emotions_have_columns_for_empty_answers_and_refusals_if_there_are_any() -> None:
    point = _point("joy", "vector", 0.4, law="add", by="strength", strength=1.0)
    prompted = _point("joy", "prompt", 0.4)
    prompted = replace(prompted, measures=replace(prompted.measures, empty=0.5, refusals=0.5))
    for shares, columns, cells in (
        ({}, [], []),
        ({"refusals": 0.015}, ["Refusals"], ["1.5\xa0%"]),
        ({"empty": 0.2, "refusals": 0.01}, ["Empty", "Refusals"], ["20.0\xa0%", "1.0\xa0%"]),
    ):
        of = replace(point, measures=replace(point.measures, **shares))
        table = tables.costs(View(_results(emotions=[prompted, of])))
        assert table.columns[6:] == ["To question", *columns]
        assert table.rows[0][7:] == cells
    read = Sentences(*(Interval(mean, mean, mean) for mean in (0.6, 0.4, 0.95)))
    of = replace(point, measures=replace(point.measures, sentences=read))
    table = tables.costs(View(_results(emotions=[of])))
    assert table.columns[7:] == ["Sentences, to unsteered", "Topic kept"]
    assert table.rows[0][7:] == ["0.60", "0.95×"]


def test_the_picture_of_costs_tells_of_the_panels_that_it_has() -> None:
    point = _point("joy", "vector", 0.4, law="add", by="strength", strength=1.0)
    read = Sentences(*(Interval(mean, mean, mean) for mean in (0.6, 0.4, 0.95)))
    sentences = replace(point, measures=replace(point.measures, sentences=read))
    prompt = _point("joy", "prompt", 0.3, template="word")
    bare, whole = (
        plots.measures(View(_results(emotions=found))) for found in ([point], [sentences, prompt])
    )
    assert bare.caption.endswith(
        ". Topic adherence is the similarity with the unsteered answer, by hidden states of the"
        " model."
    )
    assert "level line" not in bare.caption
    assert "; a level line is the prompt. Topic adherence is" in whole.caption
    assert "Topic kept is the encoder's similarity with the question" in whole.caption


def test_an_emotion_that_the_judge_does_not_know_is_shown_and_in_no_mean() -> None:
    vector = {"law": "add", "by": "strength", "strength": 1.0}
    known = [_point("joy", "vector", 0.4, **vector), _point("fear", "vector", 0.2, **vector)]
    calm = _point("calm", "vector", 0.0, **vector)
    calm = replace(calm, measures=replace(calm.measures, intended={}, top={}, perplexity_ratio=9.0))
    view = View(_results(emotions=[calm, *known]))
    assert view.known == ("joy", "fear")
    told, cost = tables.emotions(view), tables.costs(view)
    assert "it has no label for calm, which the mean leaves out" in told.caption
    assert [row[0] for row in told.rows] == ["joy", "fear", "calm", "mean"]
    assert told.rows[2][1:] == ["–"] * 4
    assert told.rows[3][3] == "0.30"
    assert [row[1] for row in cost.rows] == ["1.25×", "1.25×", "9.00×", "1.25×"]
    assert {panel.title for panel in plots.strengths(view).panels} == {"joy", "fear"}
    perplexity = plots.measures(view).panels[0]
    assert "9.00" not in perplexity.message


def test_laws_are_shown_with_the_doses_reached() -> None:
    row = replace(_dose(AHEAD, LOSES), realised={"preserve": 0.1032, "add": 0.0981})
    view = View(_results(laws=[row]))
    table = tables.laws(view)
    assert table.columns[:3] == [
        "Dose asked for (nats)", "Dose reached, add", "Dose reached, preserve",
    ]  # fmt: skip
    assert table.rows[0][:3] == ["0.100", "0.098", "0.103"]
    assert table.columns[7:] == [
        "Difference in intended", "Difference in surprise", "Difference in adherence", "Emotions",
    ]  # fmt: skip
    assert table.rows[0][7:] == ["+0.010 [−0.010, +0.030]", "−0.020 [−0.030, −0.010]", "–", "1"]


def test_ways_to_ask_for_an_emotion_stand_together() -> None:
    texts = {
        "unsteered": " plain", "joy, by vector": " ", "a, b, by prompt": "p", "joy, by prompt": "q",
        "a, b, by vector": "v", "fear, by vector": "w", "by magic, not": "x",
    }  # fmt: skip
    group = tables.samples(Sample("He", 3, texts))
    assert group.alone == [("unsteered", " plain"), ("by magic, not", "x")]
    assert group.ways == ["by prompt", "by vector"]
    assert group.rows == [
        ("joy", ["q", "(empty)"]), ("a, b", ["p", "v"]), ("fear", [None, "w"]),
    ]  # fmt: skip


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
    facts = {"weather": {"wind_speed": 3}, "luck": "good", "model": "m"}
    (run,) = (each for each in page.sections(View(_results(about=facts))) if each.key == "run")
    lists = {each.title: each.rows for each in run.parts}
    assert lists["Weather"] == [("wind speed", "3", "")]
    assert ("luck", "good", "") in lists["Run"]


@example("a](b) \\](c) \\\\|")
@given(st.text(alphabet="ab|\\\n\r`*_[]()<>&~#$ \t\u2028é漢"))
def test_escaped_text_stays_in_its_cell(text: str) -> None:
    shown = escaped(text)
    assert len(shown.splitlines()) <= 1
    assert "<" not in shown
    active = re.sub(r"\\.", "x", shown)
    assert not set("|`*_") & set(active)
    assert "](" not in active
