"""Points of the circumplex."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from emokernel import Affect, EmokernelError
from emokernel.affect import TWELVE_STATES


@pytest.mark.parametrize("point", [(1.0, 0.1), (float("nan"), 0.0), (0.0, float("inf"))])
def test_points_off_the_disc_are_refused(point):
    with pytest.raises(EmokernelError, match="unit circle"):
        Affect(*point)


@given(st.floats(0, 359.9), st.floats(0.01, 1.0))
def test_a_point_has_the_angle_and_radius_that_it_was_made_with(angle, radius):
    point = Affect.at(angle, radius)
    assert point.radius == pytest.approx(radius)
    assert abs((point.angle - angle + 180) % 360 - 180) < 1e-6


def test_valence_lies_to_the_right_and_arousal_above():
    assert Affect(0.5, 0.0).angle == 0.0
    assert Affect(0.0, 0.5).angle == 90.0


def test_a_rounding_below_the_valence_axis_is_no_full_turn():
    assert Affect(1.0, -1e-17).angle == 0.0


def test_twelve_states_are_those_of_the_paper():
    points = [(round(s.arousal, 3), round(s.valence, 3)) for s in TWELVE_STATES]
    assert points[:3] == [(1.0, 0.0), (0.866, 0.5), (0.5, 0.866)]
    assert len(set(points)) == 12
    assert all(s.radius == pytest.approx(1.0) for s in TWELVE_STATES)
