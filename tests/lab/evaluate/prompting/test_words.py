"""Words for states: Russell's adjectives, the nearest of them, and degrees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel import EmokernelError
from emokernel.affect import TWELVE_STATES, Affect, Coordinates
from emokernel.lab.evaluate.prompting.prompts import (
    DEGREES,
    adjective_of,
    adjectives,
    feels,
    nearest,
)

NOUNS = {"pleasure", "distress", "displeasure", "depression", "sleepiness", "relaxation"}


def test_the_adjectives_are_russells_28_without_nouns_and_labels_of_goemotions():
    assert len(adjectives()) == 28
    assert {"happy", "tense", "at ease", "bored"} <= set(adjectives())
    assert NOUNS.isdisjoint(adjectives())
    assert {"joy", "disgust", "surprise"}.isdisjoint(adjectives())


def test_the_twelve_states_have_twelve_words():
    assert {round(state.angle): adjective_of(state) for state in TWELVE_STATES} == {
        0: "pleased", 30: "delighted", 60: "astonished", 90: "tense", 120: "annoyed",
        150: "frustrated", 180: "miserable", 210: "gloomy", 240: "bored", 270: "sleepy",
        300: "calm", 330: "serene",
    }  # fmt: skip


@given(angle=st.floats(0, 360), radius=st.floats(0.01, 1.0))
def test_no_other_adjective_is_nearer(angle, radius):
    table = Coordinates.named("russell")
    state = Affect.at(angle, radius)

    def likeness(word: str) -> float:
        return table[word].valence * state.valence + table[word].arousal * state.arousal

    assert likeness(adjective_of(state)) == pytest.approx(max(map(likeness, adjectives())))


def test_of_equally_near_names_the_first_is_taken():
    table = Coordinates({"a": {"angle": 40.0}, "b": {"angle": 20.0}, "c": {"angle": 40.0}})
    assert nearest(Affect.at(30.0), ["a", "b", "c"], table) == "a"
    assert nearest(Affect.at(30.0), ["b", "c", "a"], table) == "b"


def test_the_circle_is_closed():
    table = Coordinates({"a": {"angle": 350.0}, "b": {"angle": 30.0}})
    assert nearest(Affect.at(5.0), ["b", "a"], table) == "a"
    assert nearest(Affect.at(355.0), ["b", "a"], table) == "a"


def test_names_without_an_angle_are_passed_over():
    table = Coordinates({"middle": (0.0, 0.0), "far": {"angle": 200.0}})
    assert nearest(Affect.at(10.0), ["unknown", "middle", "far"], table) == "far"
    with pytest.raises(EmokernelError, match="has no place for any emotion"):
        nearest(Affect.at(10.0), ["unknown", "middle"], table)


def test_degrees_rise_and_differ():
    assert list(DEGREES) == [0.25, 0.5, 0.75, 1.0]
    said = [feels(word, intensity) for word in ("calm", "joy") for intensity in DEGREES]
    assert said == [
        "feels slightly calm", "feels moderately calm", "feels strongly calm",
        "feels extremely calm", "has a slight feeling of joy", "has a moderate feeling of joy",
        "has a strong feeling of joy", "has an extreme feeling of joy",
    ]  # fmt: skip
