"""Agreement of two judges by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel.affect import Affect
from emokernel.lab.evaluate.consistency import agreement

POINTS = {"joy": Affect.at(8), "glad": Affect.at(350), "anger": Affect.at(99), "neutral": None}


def of(first, second, cosines=((0.0, 1.0), (0.0, 1.0)), points=(POINTS, POINTS)):
    return agreement(("a", "b"), (first, second), cosines, points)


def test_by_hand():
    first, second = ["joy", "joy", "anger", "neutral"], ["joy", "glad", "anger", "joy"]
    found = of(first, second, ((1.0, 1.0, -1.0, 0.0), (1.0, 0.5, -1.0, 1.0)))
    assert (found.judges, found.texts, found.equal) == (("a", "b"), 4, 0.5)
    # Chance: joy 2/4 x 2/4, anger 1/4 x 1/4.
    assert found.kappa == pytest.approx((0.5 - 5 / 16) / (1 - 5 / 16))
    assert found.within_45 == 1.0
    # Deviations (3, 3, -5, -1) / 4 and (5, 1, -11, 5) / 8.
    assert found.cosine_correlation == pytest.approx(68 / math.sqrt(44 * 172))


def test_far_labels_and_empty_answers():
    found = of(["joy", "anger", None], ["anger", "anger", "joy"], ((0, 1, 2), (0, 1, 2)))
    assert (found.within_45, found.equal) == (0.5, 0.5)


def test_kappa_is_of_labels_that_both_judges_have():
    fewer = {label: POINTS[label] for label in ("joy", "anger")}
    first, second = ["joy", "anger", "glad", "neutral"], ["joy", "anger", "joy", "anger"]
    found = of(first, second, ((0, 1, 2, 3), (0, 1, 2, 3)), (POINTS, fewer))
    assert (found.equal, found.kappa) == (0.5, 1.0)
    assert math.isnan(of(["glad"], ["joy"], ((0,), (0,)), ({"glad": None}, fewer)).kappa)


def test_what_is_not_defined_is_nan():
    found = of(["neutral", "neutral"], ["neutral", "neutral"], ((0.0, 0.0), (0.0, 1.0)))
    assert found.equal == 1.0
    assert all(map(math.isnan, (found.kappa, found.within_45, found.cosine_correlation)))
    with pytest.raises(ValueError, match="same texts"):
        of(["joy"], ["joy", "joy"])


TOPS = st.lists(st.tuples(*[st.sampled_from([*POINTS, None])] * 2), min_size=2, max_size=20)


@given(TOPS)
def test_it_is_symmetric(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    cosines = [float(len(str(top))) for top in first], [float(len(str(top))) for top in second]
    one, other = of(first, second, cosines), of(second, first, cosines[::-1])
    for name in ("equal", "kappa", "cosine_correlation", "within_45"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True)
