"""The wheel: mixes of neighbouring emotions."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from emokernel import Affect, EmokernelError
from emokernel.affect import Coordinates, Wheel
from emokernel.reference import MAX_COMPONENTS

ALL = ("joy", "excitement", "surprise", "anger", "disgust", "sadness", "relief", "gratitude")
RUSSELL = Coordinates.named("russell")

angles = st.floats(0, 360)
# Six emotions no more than 100 degrees apart, so that every point has two neighbours.
wheels = st.lists(st.floats(-20, 20), min_size=6, max_size=6).map(
    lambda shifts: {f"e{k}": (60 * k + shift) % 360 for k, shift in enumerate(shifts)}
)


def wheel_at(table: dict[str, float]) -> Wheel:
    points = {name: {"angle": angle} for name, angle in table.items()}
    return Wheel(table, Coordinates(points))


def direction(mix, angle):
    x = sum(w * math.cos(math.radians(angle(name))) for name, w in mix.items())
    y = sum(w * math.sin(math.radians(angle(name))) for name, w in mix.items())
    return math.degrees(math.atan2(y, x)) % 360.0


def apart(first, second):
    return abs((first - second + 180.0) % 360.0 - 180.0)


@given(wheels, angles, st.floats(0.01, 1.0))
def test_a_mix_points_to_its_affect_with_weights_that_sum_to_the_radius(table, angle, radius):
    mix = wheel_at(table).mix(Affect.at(angle, radius))
    assert all(weight > 0 for weight in mix.values())
    assert sum(mix.values()) == pytest.approx(radius)
    assert apart(direction(mix, table.get), angle) < 1e-5
    assert len(mix) <= 2


@given(wheels, angles, st.integers(1, 5))
def test_turning_everything_turns_the_mix(table, angle, sixths):
    turned = {name: (at + 60 * sixths) % 360 for name, at in table.items()}
    mix = wheel_at(table).mix(Affect.at(angle))
    again = wheel_at(turned).mix(Affect.at(angle + 60 * sixths))
    for name in {*mix, *again}:
        assert again.get(name, 0.0) == pytest.approx(mix.get(name, 0.0), abs=1e-6)


@given(wheels, angles, st.floats(0.1, 1.0))
def test_the_radius_is_the_intensity(table, angle, radius):
    wheel = wheel_at(table)
    full, part = wheel.mix(Affect.at(angle)), wheel.mix(Affect.at(angle, radius))
    for name in {*full, *part}:
        assert part.get(name, 0.0) == pytest.approx(radius * full.get(name, 0.0), abs=1e-8)


def test_an_emotion_on_the_spot_stands_alone():
    mix = Wheel(ALL, RUSSELL).mix(Affect.at(RUSSELL.angle("sadness")))
    assert mix == pytest.approx({"sadness": 1})


def test_emotions_at_one_angle_share():
    mix = Wheel(("joy", "amusement", "fear"), RUSSELL).mix(Affect.at(RUSSELL.angle("joy")))
    assert mix == pytest.approx({"joy": 0.5, "amusement": 0.5})


def test_a_wide_gap_uses_the_nearer_neighbour():
    assert Wheel(("joy", "excitement"), RUSSELL).mix(Affect(-1.0, 0.0)) == {"excitement": 1.0}
    assert Wheel(("fear",), RUSSELL).mix(Affect(0.0, -1.0)) == {"fear": 1.0}


def test_the_centre_is_an_empty_mix():
    assert Wheel(ALL, RUSSELL).mix(Affect(0.0, 0.0)) == {}


def test_how_far_from_the_centre_a_table_puts_an_emotion_does_not_count():
    near = Coordinates({"calm": (0.0, -0.1), "glad": (0.2, 0.0)})
    far = Coordinates({"calm": (0.0, -1.0), "glad": (1.0, 0.0)})
    point = Affect.at(-30)
    mix = Wheel(("calm", "glad"), near).mix(point)
    assert mix == pytest.approx(Wheel(("calm", "glad"), far).mix(point))
    assert set(mix) == {"calm", "glad"}


def test_emotions_without_an_angle_are_left_out_and_reported():
    table = Coordinates({"joy": (0.5, 0.5), "neutral": (0.0, 0.0)})
    wheel = Wheel(("joy", "neutral", "blue"), table)
    assert wheel.left_out == ("neutral", "blue")
    assert wheel.mix(Affect(0.0, 1.0)) == {"joy": 1.0}


def test_no_emotion_with_a_place_is_an_error():
    with pytest.raises(
        EmokernelError, match=r"no emotion of these vectors has a place .*'russell'"
    ):
        Wheel(("confusion", "blue"), RUSSELL)


def test_more_neighbours_than_a_mix_holds_are_an_error_that_names_them():
    names = [f"e{k}" for k in range(MAX_COMPONENTS + 1)]
    table = Coordinates({name: {"angle": 90 * (k % 2)} for k, name in enumerate(names)})
    Wheel(names[:-1], table)
    with pytest.raises(EmokernelError, match=r"between 0 and 90 degrees .* 9 emotions.*e0, e2"):
        Wheel(names, table)
