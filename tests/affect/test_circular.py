"""How well places agree with a table."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from affect.planted import NAMES, RUSSELL, of_table
from hypothesis import given

from emokernel.affect import agreement


def turned(places, degrees, mirror=False):
    turn = complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    return {
        name: ((z := turn * complex(x, -y if mirror else y)).real, z.imag)
        for name, (x, y) in places.items()
    }


@given(st.floats(-179, 179))
def test_agreement_of_a_turned_circle(degrees):
    found = agreement(turned(of_table(RUSSELL, NAMES), degrees), RUSSELL)
    assert found.emotions == len(NAMES)
    assert found.cosine == pytest.approx(math.cos(math.radians(degrees)))
    assert found.circular_error == pytest.approx(abs(degrees), abs=1e-5)
    assert found.circular_correlation == pytest.approx(1.0)


@given(st.floats(-179, 179))
def test_a_mirrored_circle_correlates_negatively(degrees):
    found = agreement(turned(of_table(RUSSELL, NAMES), degrees, mirror=True), RUSSELL)
    assert found.circular_correlation == pytest.approx(-1.0)


def test_agreement_compares_directions_of_emotions_in_both_only():
    places = {"joy": of_table(RUSSELL, ["joy"])["joy"], "confusion": (1.0, 0.0)}
    assert agreement(places, RUSSELL) is None
    valence, arousal = of_table(RUSSELL, ["anger"])["anger"]
    found = agreement({**places, "anger": (3 * valence, 3 * arousal)}, RUSSELL)
    assert (found.emotions, found.cosine) == (2, pytest.approx(1.0))
