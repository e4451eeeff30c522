"""Choosing a dose from measured points."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from emokernel import EmokernelError
from emokernel.calibrate import Bounds, Point
from emokernel.calibrate.choose import choose

LEVELS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.1, 1.6, 2.4)


def curve(noise=0.0, seed=0, repeated=0.0, saturates=math.inf):
    """Points of a model whose log perplexity is 0.5 times the divergence, effect its root."""
    random = np.random.default_rng(seed)
    return [
        Point(
            2 * math.sqrt(kl),
            kl,
            0.3 * math.sqrt(min(kl, saturates)) + noise * random.normal(),
            math.exp(0.5 * kl + noise * random.normal()),
            1 - repeated * kl,
        )
        for kl in LEVELS
    ]


def test_the_dose_lies_where_the_perplexity_reaches_its_bound():
    chosen = choose(curve(), 0.0, Bounds(perplexity=1.5))
    expected = math.log(1.5) / 0.5
    assert chosen.divergence == pytest.approx(expected, rel=0.02)
    assert chosen.perplexity == pytest.approx(1.5, rel=0.01)
    assert chosen.strength == pytest.approx(2 * math.sqrt(expected), rel=0.05)
    assert chosen.effect == pytest.approx(0.3 * math.sqrt(expected), rel=0.05)


def test_the_dose_lies_where_the_repetition_reaches_its_bound():
    chosen = choose(curve(repeated=0.5), 0.0, Bounds(perplexity=100.0, distinct=0.9))
    assert chosen.divergence == pytest.approx(0.2, rel=0.1)
    assert chosen.distinct >= 0.9 - 1e-9


def test_of_doses_of_equal_effect_the_smaller_is_taken():
    chosen = choose(curve(saturates=0.2), 0.0, Bounds(perplexity=1.5))
    assert chosen.divergence == pytest.approx(0.2, rel=0.02)


def test_bounds_that_hold_everywhere_give_the_last_point():
    assert choose(curve(), 0.0, Bounds(perplexity=100.0)).divergence == LEVELS[-1]


def test_an_emotion_that_steering_weakens_gets_no_dose():
    assert choose(curve(), 0.9, Bounds()).strength == 0.0


@given(st.integers(0, 1000), st.floats(1.05, 4.0), st.floats(0.0, 0.15))
def test_noise_never_breaks_the_bounds(seed, perplexity, noise):
    bounds = Bounds(perplexity=perplexity)
    points = curve(noise=noise, seed=seed)
    chosen = choose(points, 0.0, bounds)
    assert chosen.perplexity <= perplexity * (1 + 1e-6)
    assert 0 <= chosen.divergence <= LEVELS[-1]
    assert choose(points[::-1], 0.0, bounds) == chosen
    looser = choose(points, 0.0, Bounds(perplexity=perplexity + 0.5))
    assert looser.effect >= chosen.effect


def test_smoothing_averages_the_noise_out():
    chosen = [
        choose(curve(noise=0.05, seed=seed), 0.0, Bounds(perplexity=1.5)) for seed in range(40)
    ]
    expected = math.log(1.5) / 0.5
    assert np.mean([c.divergence for c in chosen]) == pytest.approx(expected, rel=0.1)
    assert np.std([c.divergence for c in chosen]) < 0.25


@pytest.mark.parametrize("points", [[], [Point(1.0, 0.1, 0.2, math.inf, 1.0)]])
def test_points_that_are_none_are_refused(points):
    with pytest.raises(EmokernelError, match="a dose is chosen from finite points"):
        choose(points, 0.0, Bounds())


@pytest.mark.parametrize("bounds", [{"perplexity": 1.0}, {"distinct": 0.0}, {"distinct": 1.1}])
def test_bounds_that_make_no_sense_are_refused(bounds):
    with pytest.raises(EmokernelError, match="bounds need perplexity above 1"):
        Bounds(**bounds)
