"""The axes: directions of valence and arousal fitted to vectors."""

from __future__ import annotations

from functools import cache

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from affect.planted import LAYERS, NAMES, RUSSELL, WIDTH, planted
from hypothesis import given, settings

from emokernel import Affect, EmokernelError
from emokernel.affect import TABLES, Axes, Coordinates
from emokernel.affect.axes import RIDGES, combinations, penalty
from emokernel.vectors import EmotionVectors


@pytest.mark.parametrize("table", TABLES)
def test_planted_directions_are_recovered(table):
    names = tuple(name for name in NAMES if name in Coordinates.named(table))
    vectors, truth = planted(Coordinates.named(table), names)
    axes = Axes(vectors, Coordinates.named(table), ridge=0.0)
    torch.testing.assert_close(axes.vectors.tensor, truth, atol=1e-5, rtol=1e-5)
    assert axes.vectors.names == ("valence", "arousal")
    assert axes.vectors.site == "attention"
    assert axes.vectors.provenance["model"] == "toy"
    assert axes.vectors.provenance["axes"] == {"coordinates": table, "ridge": 0.0}


def test_without_noise_the_smallest_penalty_is_chosen():
    assert Axes(planted()[0], RUSSELL).ridge == RIDGES[0]


def test_with_noise_they_are_recovered_nearly_and_a_penalty_is_chosen():
    vectors, truth = planted(noise=0.5)
    axes = Axes(vectors, RUSSELL)
    found = axes.vectors.tensor
    cosines = torch.cosine_similarity(
        found.transpose(0, 1).flatten(1), truth.transpose(0, 1).flatten(1)
    )
    assert cosines.min() > 0.8
    assert RIDGES[0] < axes.ridge < RIDGES[-1]


def test_the_penalty_shrinks_the_directions():
    vectors, _ = planted(noise=0.3)
    sizes = [Axes(vectors, RUSSELL, ridge).vectors.tensor.norm() for ridge in (0, 1, 10, 1e3, 1e6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-4 * sizes[0]


def test_the_directions_are_the_ridge_regression_of_the_vectors_on_the_coordinates():
    vectors, _ = planted(noise=0.5)
    points = np.array([(RUSSELL[name].valence, RUSSELL[name].arousal) for name in NAMES])
    centred = points - points.mean(axis=0)
    flat = vectors.tensor.double().transpose(0, 1).flatten(1).numpy()
    inverse = np.linalg.inv(centred.T @ centred + 2.5 * np.eye(2))
    by_hand = (inverse @ centred.T @ flat).reshape(2, LAYERS, WIDTH)
    found = Axes(vectors, RUSSELL, ridge=2.5).vectors.tensor.transpose(0, 1).numpy()
    np.testing.assert_allclose(found, by_hand, atol=1e-6)


def test_the_chosen_penalty_predicts_left_out_vectors_best():
    vectors, _ = planted(noise=0.8)
    points = np.array([(RUSSELL[name].valence, RUSSELL[name].arousal) for name in NAMES])
    flat = vectors.tensor.double().transpose(0, 1).flatten(1).numpy()

    def error(ridge):
        """Of each emotion predicted from its coordinates by the fit to all others."""
        total = 0.0
        for number, vector in enumerate(flat):
            others = np.arange(len(NAMES)) != number
            fit = combinations(points[others], ridge) @ flat[others]
            total += np.sum((vector - fit[0] - points[number] @ fit[1:]) ** 2)
        return total

    assert penalty(points, flat) == min(RIDGES, key=error)
    assert Axes(vectors, RUSSELL).ridge == penalty(points, flat)


@given(st.floats(0, 360), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_a_mix_of_the_axes_is_linear_in_the_intensity(angle, radius, share):
    axes = _toy_axes()
    whole, part = axes.mix(Affect.at(angle, radius)), axes.mix(Affect.at(angle, radius * share))
    for name in ("valence", "arousal"):
        assert part.get(name, 0.0) == pytest.approx(share * whole.get(name, 0.0), abs=1e-12)


@cache
def _toy_axes() -> Axes:
    return Axes(planted()[0], RUSSELL, ridge=0.1)


def test_the_mix_is_the_point_itself_without_zeros():
    axes = _toy_axes()
    assert axes.mix(Affect(0.5, -0.25)) == {"valence": 0.5, "arousal": -0.25}
    assert axes.mix(Affect(0.0, -0.25)) == {"arousal": -0.25}
    assert axes.mix(Affect(0.0, 0.0)) == {}


def test_an_emotion_is_base_plus_the_mix_of_its_point():
    vectors, _ = planted()
    axes = Axes(vectors, RUSSELL, ridge=0.0)

    def moved(name):
        mix = axes.mix(RUSSELL[name])
        return vectors[name] - sum(weight * axes.vectors[axis] for axis, weight in mix.items())

    torch.testing.assert_close(moved("joy"), moved("sadness"), atol=1e-4, rtol=1e-4)


def test_emotions_without_coordinates_are_left_out_and_reported():
    vectors, _ = planted(names=(*NAMES, "confusion"), noise=0.2)
    axes = Axes(vectors, RUSSELL, ridge=1.0)
    assert axes.left_out == ("confusion",)
    without = Axes(vectors.select(NAMES), RUSSELL, ridge=1.0)
    assert torch.equal(axes.vectors.tensor, without.vectors.tensor)


def test_a_layer_without_vectors_has_no_directions():
    vectors, _ = planted(noise=0.2)
    tensor = vectors.tensor.clone()
    tensor[1] = 0
    assert not Axes(EmotionVectors(vectors.names, tensor, "block"), RUSSELL).vectors.tensor[1].any()


def test_three_emotions_can_be_fitted():
    assert Axes(planted(names=NAMES[:3])[0], RUSSELL).vectors.layers == tuple(range(LAYERS))


def test_too_few_emotions_or_all_on_one_line_are_an_error():
    two, _ = planted(names=("joy", "anger", "confusion"))
    with pytest.raises(EmokernelError, match=r"\(joy, anger\) are fewer than 3.*for confusion"):
        Axes(two, RUSSELL)
    with pytest.raises(EmokernelError, match=r"\(none\) are fewer than 3"):
        Axes(two.select(["confusion"]), RUSSELL)
    line = Coordinates({name: (k / 10, 0.5 - k / 20) for k, name in enumerate(NAMES)}, "line")
    with pytest.raises(EmokernelError, match=r"'line' .* lie on one line"):
        Axes(planted(line)[0], line)


def test_vectors_that_are_all_the_same_are_an_error():
    same = EmotionVectors.from_tensors({name: torch.ones(2, 4) for name in NAMES})
    with pytest.raises(EmokernelError, match="all the same"):
        Axes(same, RUSSELL)


@pytest.mark.parametrize("ridge", [-1.0, float("nan"), float("inf")])
def test_a_penalty_that_is_none_is_an_error(ridge):
    with pytest.raises(EmokernelError, match="ridge must be a finite number >= 0"):
        Axes(planted()[0], RUSSELL, ridge)


@pytest.mark.parametrize("seed", range(20))
def test_the_fit_and_the_penalty_are_those_of_scikit_learn(seed):
    linear = pytest.importorskip("sklearn.linear_model")
    chooser = np.random.default_rng(seed)
    points = chooser.uniform(-1, 1, (3 + seed, 2))
    own = points @ chooser.normal(size=(2, 40)) + chooser.normal(size=(len(points), 40))
    for ridge in (0.0, 1e-6, 1.0, 50.0):
        fit = linear.Ridge(alpha=ridge).fit(points, own)
        expected = np.vstack([fit.intercept_, fit.coef_.T])
        ours = combinations(points, ridge) @ own
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours / scale, expected / scale, rtol=0, atol=1e-9)
    assert penalty(points, own) == linear.RidgeCV(RIDGES).fit(points, own).alpha_


def test_combinations_of_emotions_give_base_and_axes():
    points = np.array([(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
    np.testing.assert_allclose(
        combinations(points, 0.0), [[0, 0, 1], [1, 0, -1], [0, 1, -1]], atol=1e-12
    )
