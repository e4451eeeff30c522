"""What two judges find in one emotion, by hand."""

from __future__ import annotations

import pytest

from emokernel.lab.evaluate.judged import judged, separation


def test_by_hand():
    plain = {"a": [0.1, 0.3], "b": [0.0, 0.5]}
    found = judged("joy", plain, {"a": [0.2, 0.4, 0.9], "b": [0.5, 0.6, 0.1]})
    assert (found.emotion, found.unsteered["a"]) == ("joy", pytest.approx(0.2))
    assert found.steered == {"a": pytest.approx(0.5), "b": pytest.approx(0.4)}
    # Of 6 pairs a finds 5 in order; b 4, and one is a tie.
    assert found.separation == {"a": pytest.approx(5 / 6), "b": pytest.approx(4.5 / 6)}
    # Ranks 1 2 3 and 2 3 1.
    assert found.correlation == pytest.approx(-0.5)


def test_separation_is_one_half_by_chance_and_one_at_best():
    assert separation([0.5, 0.5], [0.5]) == 0.5
    assert separation([0.6, 0.7], [0.5, 0.1]) == 1
    assert separation([0.1], [0.5]) == 0
