"""The strength of a dose, from divergences that may be nothing at all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emokernel.errors import SteeringError
from emokernel.lab.learn.comparison import _strength
from emokernel.lab.measure.equal_doses import Ask

ASK = Ask("joy", "joy", "add", "absolute")
RUNGS = np.array([1.0, 2.0, 4.0, 8.0])


def test_divergences_that_are_none_are_passed_over():
    found = _strength(ASK, 0.4, np.array([-1e-9, 0.1, math.nan, 1.6]), RUNGS)
    assert found == pytest.approx(4.0)


@pytest.mark.parametrize("value", [0.0, -1e-9, math.nan, math.inf])
def test_divergences_of_nothing_are_an_error(value):
    with pytest.raises(SteeringError, match="'joy' diverges by"):
        _strength(ASK, 0.4, np.full(4, value), RUNGS)
