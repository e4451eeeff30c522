"""Points of the circumplex and the mixes that stand for them."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from emokernel import Affect, EmokernelError
from emokernel.affect import TWELVE_STATES, angle_of, mix_for

ALL = ("joy", "excitement", "surprise", "anger", "disgust", "sadness", "relief", "gratitude")


def direction(mix):
    x = sum(w * math.cos(math.radians(angle_of(name))) for name, w in mix.items())
    y = sum(w * math.sin(math.radians(angle_of(name))) for name, w in mix.items())
    return math.degrees(math.atan2(y, x)) % 360.0


@given(st.floats(0, 360), st.floats(0.01, 1.0))
def test_a_mix_points_to_its_affect_with_weights_that_sum_to_the_radius(angle, radius):
    affect = Affect(radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle)))
    mix = mix_for(affect, ALL)
    assert all(weight > 0 for weight in mix.values())
    assert sum(mix.values()) == pytest.approx(radius)
    gap = abs(direction(mix) - affect.angle) % 360.0
    assert min(gap, 360.0 - gap) < 1e-6
    assert len({angle_of(name) for name in mix}) <= 2


def test_an_emotion_on_the_spot_stands_alone():
    angle = math.radians(angle_of("sadness"))
    assert mix_for(Affect(math.cos(angle), math.sin(angle)), ALL) == pytest.approx({"sadness": 1})


def test_emotions_at_one_angle_share():
    angle = math.radians(angle_of("joy"))
    mix = mix_for(Affect(math.cos(angle), math.sin(angle)), ("joy", "amusement", "fear"))
    assert mix == pytest.approx({"joy": 0.5, "amusement": 0.5})


def test_a_wide_gap_uses_the_nearer_neighbour():
    assert mix_for(Affect(-1.0, 0.0), ("joy", "excitement")) == {"excitement": 1.0}
    assert mix_for(Affect(0.0, -1.0), ("fear",)) == {"fear": 1.0}


def test_the_centre_is_an_empty_mix():
    assert mix_for(Affect(0.0, 0.0), ALL) == {}


def test_no_emotion_with_a_place_is_an_error():
    with pytest.raises(EmokernelError, match="no emotion of these vectors"):
        mix_for(Affect(1.0, 0.0), ("confusion", "blue"))


@pytest.mark.parametrize("point", [(1.0, 0.1), (float("nan"), 0.0), (0.0, float("inf"))])
def test_points_off_the_disc_are_refused(point):
    with pytest.raises(EmokernelError, match="unit circle"):
        Affect(*point)


def test_twelve_states_are_those_of_the_paper():
    points = [(round(s.arousal, 3), round(s.valence, 3)) for s in TWELVE_STATES]
    assert points[:3] == [(1.0, 0.0), (0.866, 0.5), (0.5, 0.866)]
    assert len(set(points)) == 12
    assert all(s.radius == pytest.approx(1.0) for s in TWELVE_STATES)
