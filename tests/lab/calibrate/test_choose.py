"""Choosing a dose from measured points."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from emokernel import EmokernelError
from emokernel.lab.calibrate import Bounds, Point
from emokernel.lab.calibrate.choose import choose, edge
from emokernel.lab.calibrate.readings import Readings

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
    assert chosen.strength == pytest.approx(2 * math.sqrt(expected), rel=0.01)
    assert chosen.effect == pytest.approx(0.3 * math.sqrt(expected), rel=0.05)


def test_the_dose_lies_where_the_repetition_reaches_its_bound():
    chosen = choose(curve(repeated=0.5), 0.0, Bounds(perplexity=100.0, distinct=0.9))
    assert chosen.divergence == pytest.approx(0.2, rel=0.1)
    assert chosen.distinct >= 0.9 - 1e-9


def test_the_dose_lies_where_texts_begin_to_loop():
    points = [replace(point, repetition=0.1 * point.divergence) for point in curve()]
    wide = Bounds(perplexity=100.0, distinct=0.5)
    chosen = choose(points, 0.0, replace(wide, repetition=0.05))
    assert chosen.divergence == pytest.approx(0.5, rel=0.02)
    assert chosen.repetition == pytest.approx(0.05, rel=0.02)
    assert choose(points, 0.0, replace(wide, repetition=1.0)).divergence == LEVELS[-1]


def test_a_text_that_loops_one_sentence_is_out_of_bounds_where_all_texts_together_are_not():
    """Two of twenty texts say one sentence five times: of all 3-grams a tenth is lost at most."""
    own = [" ".join(f"w{text}x{n}" for n in range(40)) for text in range(20)]
    loops = [" ".join([f"so{text} angry at you all again and again"] * 5) for text in range(2)]
    columns = [list(range(20)), [0.3] * 20, [60.0] * 20, [40] * 20]
    own[19] = "in and out and in and out and in and out and in and out"  # which counts in neither
    plain, steered = (Readings.of([*columns, texts]) for texts in (own, [*loops, *own[2:]]))
    point = steered.point(plain, 1.0, 0.3)
    assert point.distinct > Bounds().distinct
    assert point.repetition == pytest.approx(2 / 20 * (1 - 8 / 37))
    assert point.repetition > Bounds().repetition
    chosen = choose([point], 0.1, Bounds())
    assert 0 < chosen.divergence < 0.3
    assert edge([point], Bounds()) < 0.3
    assert edge([point], Bounds(repetition=0.1)) == math.inf


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
    assert min(0.0, *(p.effect for p in points)) <= chosen.effect <= max(p.effect for p in points)


@given(st.floats(1.05, 3.0), st.floats(0.01, 1.0))
def test_looser_bounds_give_more(perplexity, more):
    chosen, looser = (
        choose(curve(), 0.0, Bounds(perplexity=p)) for p in (perplexity, perplexity + more)
    )
    assert looser.effect >= chosen.effect - 1e-9


def test_smoothing_averages_the_noise_out():
    chosen = [
        choose(curve(noise=0.05, seed=seed), 0.0, Bounds(perplexity=1.5)) for seed in range(40)
    ]
    expected = math.log(1.5) / 0.5
    assert np.mean([c.divergence for c in chosen]) == pytest.approx(expected, rel=0.1)
    assert np.std([c.divergence for c in chosen]) < 0.25


def made(effects, perplexities, distincts=(1.0,) * 8):
    rows = zip(LEVELS, effects, perplexities, distincts, strict=True)
    return [Point(kl, kl, effect, ppl, distinct) for kl, effect, ppl, distinct in rows]


def test_text_that_collapses_beyond_the_bounds_does_not_count():
    effects = (0.1, 0.15, 0.2, 0.3, 0.6, 0.05, 0.05, 0.05)
    chosen = choose(made(effects, (1.05, 1.08, 1.12, 1.2, 1.3, 2.5, 4, 8)), 0.0, Bounds())
    assert chosen.divergence == pytest.approx(0.7)
    assert chosen.effect == pytest.approx(0.6)


def test_repetition_does_not_hide_a_perplexity_beyond_the_bound():
    perplexities = (1.05, 1.1, 1.2, 1.7, 2.0, 1.3, 1.0, 0.8)
    distincts = (1, 1, 1, 1, 0.99, 0.6, 0.3, 0.1)
    chosen = choose(made((0.1,) * 3 + (0.9,) * 5, perplexities, distincts), 0.0, Bounds())
    assert 0.2 < chosen.divergence < 0.4


def test_falling_perplexity_between_points_does_not_open_the_bounds_again():
    perplexities = (1.05, 1.1, 1.2, 1.6, 1.0, 1.0, 1.0, 1.0)
    distincts = (1, 1, 1, 1, 0.6, 0.5, 0.4, 0.3)
    chosen = choose(made((0.1,) * 3 + (0.9,) * 5, perplexities, distincts), 0.0, Bounds())
    assert 0.2 < chosen.divergence < 0.4


def test_the_strength_of_a_small_dose_goes_with_the_root_of_its_divergence():
    points = [Point(2 * math.sqrt(kl), kl, 0.1, math.exp(10 * kl), 1.0) for kl in LEVELS]
    chosen = choose(points, 0.0, Bounds(perplexity=1.2))
    assert chosen.divergence == pytest.approx(math.log(1.2) / 10, rel=0.05)
    assert chosen.strength == pytest.approx(2 * math.sqrt(chosen.divergence), rel=0.01)


def test_a_dose_at_which_nothing_is_written_is_out_of_bounds():
    perplexities = (1.05, 1.1, 1.2, 1.3, math.inf, math.inf, math.nan, math.inf)
    distincts = (1, 1, 1, 1, 0, 0, 0, 0)
    effects = (0.1, 0.2, 0.3, 0.4) + (0.9,) * 4
    chosen = choose(made(effects, perplexities, distincts), 0.0, Bounds())
    assert 0.4 <= chosen.divergence <= 0.45
    first = choose(made((0.9,) * 8, (math.inf,) * 8, (0,) * 8), 0.0, Bounds())
    assert first.divergence < 0.05


@pytest.mark.parametrize(
    "points", [[], [Point(1.0, math.inf, 0.2, 1.0, 1.0)], [Point(1.0, -1e-9, 0.2, 1.0, 1.0)]]
)
def test_points_that_are_none_are_refused(points):
    with pytest.raises(EmokernelError, match="a dose is chosen from finite points"):
        choose(points, 0.0, Bounds())


def test_a_perplexity_that_underflows_is_a_low_one():
    points = made((0.1,) * 8, (1.0, 0.0) * 4, (1,) * 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isfinite(choose(points, 0.0, Bounds()).perplexity)


@pytest.mark.parametrize(
    "bounds", [{"perplexity": 1.0}, {"distinct": 0.0}, {"distinct": 1.1}, {"repetition": 0.0}]
)
def test_bounds_that_make_no_sense_are_refused(bounds):
    with pytest.raises(EmokernelError, match="bounds need perplexity above 1"):
        Bounds(**bounds)


def test_the_edge_is_where_the_bounds_end_whatever_the_effect():
    assert edge(curve(), Bounds()) == pytest.approx(math.log(1.5) / 0.5, rel=0.02)
    assert edge(curve(saturates=0.1), Bounds()) == edge(curve(), Bounds())
    assert edge(curve(), Bounds(perplexity=100.0)) == math.inf


def test_points_count_by_their_texts():
    few, many = (
        [
            Point(1.0, 0.5, 0.3, 1.2, 1.0, texts),
            Point(1.01, 0.51, 0.1, 1.2, 1.0, 100),
        ]
        for texts in (1, 10_000)
    )
    assert choose(few, 0.0, Bounds()).effect == pytest.approx(0.1, abs=0.01)
    assert choose(many, 0.0, Bounds()).effect == pytest.approx(0.3, abs=0.01)
