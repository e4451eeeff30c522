"""Consistency: its bounds, what leaves it alone, and small cases by hand."""

from __future__ import annotations

import dataclasses
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emokernel.affect import TWELVE_STATES, Affect, Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.consistency import Reader, consistency, cosines
from emokernel.lab.evaluate.results import Consistency
from emokernel.lab.judges import load_classifier

OTHERS = {
    "mode": "vector", "template": "", "intensity": 1.0, "judge": "a judge", "refusals": 0.0,
    "perplexity": 1.0, "distinct_3": 1.0,
}  # fmt: skip
POINTS = {f"{30 * n}": Affect.at(30 * n) for n in range(12)} | {"neutral": None}
LABELS = st.sampled_from([*POINTS, None])


def measured(rows, points=POINTS) -> Consistency:
    """Of rows (top label, state, opening)."""
    return consistency(*zip(*rows, strict=True), points, **OTHERS)


@st.composite
def texts(draw) -> list[tuple[str | None, int, int]]:
    """A row for every state and each of some openings."""
    openings = draw(st.integers(1, 4))
    pairs = [(state, opening) for state in range(12) for opening in range(openings)]
    tops = draw(st.lists(LABELS, min_size=len(pairs), max_size=len(pairs)))
    return [(top, *pair) for top, pair in zip(tops, pairs, strict=True)]


def numbers(found: Consistency) -> list[float]:
    """All that depends on the labels' points, but not on where they lie on the circle."""
    return [
        *dataclasses.astuple(found.cosine), *dataclasses.astuple(found.floor), found.pooled,
        found.p, found.placeless, found.empty,
        *(value for state in found.states for value in dataclasses.astuple(state.cosine)),
    ]  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(texts())
def test_bounds(rows):
    found = measured(rows)
    mean, low, high = dataclasses.astuple(found.cosine)
    assert -1 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1
    assert found.floor.low <= found.floor.mean <= found.floor.high
    assert 0 < found.p <= 1
    assert abs(found.pooled) <= 1 + 1e-9
    assert found.placeless == sum(top == "neutral" for top, *_ in rows) / len(rows)
    assert found.empty == pytest.approx(sum(top is None for top, *_ in rows) / len(rows))
    assert found.cosine.mean == pytest.approx(np.mean([s.cosine.mean for s in found.states]))


@settings(max_examples=20, deadline=None)
@given(texts(), st.randoms(use_true_random=False))
def test_the_order_of_the_texts_does_not_matter(rows, random):
    mixed = random.sample(rows, len(rows))
    one, other = measured(rows), measured(mixed)
    assert numbers(one) == pytest.approx(numbers(other), abs=1e-9)
    for state, again in zip(one.states, other.states, strict=True):
        assert list(state.tops.items()) == list(again.tops.items())


@settings(max_examples=20, deadline=None)
@given(texts(), st.integers(0, 11), st.booleans())
def test_a_turned_or_mirrored_circle_gives_the_same(rows, turn, mirrored):
    sign = -1 if mirrored else 1
    points = {k: p and Affect.at(sign * (p.angle + 30 * turn)) for k, p in POINTS.items()}
    states = [Affect.at(sign * (s.angle + 30 * turn)) for s in TWELVE_STATES]
    there = consistency(*zip(*rows, strict=True), points, states=states, **OTHERS)
    assert numbers(measured(rows)) == pytest.approx(numbers(there), abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(texts(), st.floats(0.05, 1))
def test_how_strong_the_emotions_of_a_table_are_does_not_matter(rows, radius):
    points = {label: p and Affect.at(p.angle, radius) for label, p in POINTS.items()}
    assert numbers(measured(rows)) == pytest.approx(numbers(measured(rows, points)), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(texts(), st.floats(0.05, 1))
def test_the_intensity_asked_for_does_not_matter(rows, intensity):
    states = [Affect.at(s.angle, intensity) for s in TWELVE_STATES]
    there = consistency(*zip(*rows, strict=True), POINTS, states=states, **OTHERS)
    assert numbers(measured(rows)) == pytest.approx(numbers(there), abs=1e-9)


def test_exact_labels_reach_all_there_is():
    rows = [(f"{s.angle:.0f}", n, o) for n, s in enumerate(TWELVE_STATES) for o in range(3)]
    found = measured(rows)
    assert found.cosine.mean == found.cosine.low == found.pooled == pytest.approx(1)
    assert found.p == 1 / 2001
    assert abs(found.floor.mean) < 0.02
    assert found.floor.high < 0.75
    assert found.states[0].tops == {"90": 3}
    assert found.states[1].found == pytest.approx((0.5, math.sqrt(0.75)))


def test_the_label_of_a_table_has_the_cosine_of_its_point():
    table = Coordinates.named("russell")
    points = {"joy": table["joy"], "anger": table["anger"]}
    found = cosines(["joy", "anger", None], Affect.at(30, 0.4), points)
    expected = [math.cos(math.radians(table.angle(label) - 30)) for label in points]
    assert found.tolist() == pytest.approx([*expected, 0.0])


def test_labels_without_a_place_count_nothing():
    found = measured([(top, n, 0) for n in range(12) for top in ("neutral", None)])
    assert numbers(found)[:7] == [0.0] * 7
    assert (found.p, found.placeless, found.empty) == (1.0, 0.5, 0.5)
    assert found.states[3].tops == {"neutral": 1}
    centre = measured([("here", n, 0) for n in range(12)], {"here": Affect(0.0, 0.0)})
    assert (centre.cosine.mean, centre.pooled, centre.placeless) == (0.0, 0.0, 0.0)


def test_a_neutral_answer_halves_the_cosine_but_not_the_pooled_figure():
    rows = [(top, n, 0) for n, s in enumerate(TWELVE_STATES) for top in (f"{s.angle:.0f}", None)]
    found = measured(rows)
    assert (found.cosine.mean, found.pooled) == (pytest.approx(0.5), pytest.approx(1))
    assert found.states[0].found == pytest.approx((0, 0.5))


def test_opposite_answers_cancel_in_the_pooled_figure():
    rows = [
        (f"{(s.angle + turn) % 360:.0f}", n, 0)
        for n, s in enumerate(TWELVE_STATES)
        for turn in (0, 180)
    ]
    assert measured(rows).pooled == 0.0


def test_always_the_same_answer_is_worth_what_chance_is():
    found = measured([("30", n, o) for n in range(12) for o in range(4)])
    assert found.cosine.mean == pytest.approx(0)
    assert found.p == 1.0


def test_openings_are_drawn_whole():
    # All texts of an opening are right or wrong together: as uncertain as two texts are.
    rows = [
        (f"{s.angle:.0f}" if opening else "neutral", n, opening)
        for n, s in enumerate(TWELVE_STATES)
        for opening in range(2)
        for _ in range(10)
    ]
    found = measured(rows)
    for interval in (found.cosine, found.states[5].cosine):
        assert (interval.low, interval.high) == (pytest.approx(0), pytest.approx(1))


def test_the_floor_gives_each_state_another_one():
    # The texts of the one state with an emotion are its own in a twelfth of the shuffles.
    found = measured([("neutral" if n else "90", n, 0) for n in range(12)])
    assert (found.floor.low, found.floor.high) == (pytest.approx(-1 / 12), pytest.approx(1 / 12))
    assert 0.06 < found.p < 0.11


def test_twelve_times_150_texts_are_quick():
    rows = [(f"{30 * (n % 12)}", n % 12, n // 12 % 50) for n in range(1800)]
    measured(rows)
    started = time.process_time()
    measured(rows)
    assert time.process_time() - started < 0.3


def test_every_state_needs_a_text():
    with pytest.raises(ValueError, match="every state a text"):
        measured([("30", n, 0) for n in range(11)])
    with pytest.raises(ValueError, match="a state and an opening"):
        consistency(["30"] * 12, range(12), [0], POINTS, **OTHERS)


def test_top_labels_of_blank_answers_are_none():
    probabilities = torch.tensor([[0.2, 0.8], [0.9, 0.1], [0.9, 0.1]])
    judge = SimpleNamespace(labels=["joy", "anger"])
    reader = Reader(judge, (), (), {}, {})
    assert reader.tops(probabilities, [" a", "b", " \n"]) == ["anger", "joy", None]


def test_labels_have_the_place_of_their_name_or_of_their_emotion():
    judge = load_classifier("embedded-evaluation")
    table = Coordinates({"joy": (1.0, 0.0), "fright": (-0.5, 0.5)})
    points = Reader.of(judge, (), {"fright": ["fear", "joy"]}, table).points
    assert {label: point for label, point in points.items() if point} == {
        "joy": Affect(1.0, 0.0), "fear": Affect(-0.5, 0.5),
    }  # fmt: skip
    with pytest.raises(EmokernelError, match=r"no label of .*'embedded-evaluation'.* table 'own'"):
        Reader.of(judge, (), {}, Coordinates({"boredom": (-0.5, -0.5)}))
