"""Where the emotions of a model lie, and how well places agree with a table."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from affect.planted import LAYERS, NAMES, RUSSELL, of_table, planted
from hypothesis import given

from emokernel import EmokernelError
from emokernel.affect import TABLES, Coordinates
from emokernel.lab.evaluate.positions import agreement, positions_of
from emokernel.vectors import EmotionVectors


@pytest.mark.parametrize("table", TABLES)
def test_planted_coordinates_are_recovered(table):
    table = Coordinates.named(table)
    names = tuple(name for name in NAMES if name in table)
    found = positions_of(planted(table, names)[0], table)
    assert list(found) == list(names)
    for name, place in of_table(table, names).items():
        assert found[name] == pytest.approx(place, abs=1e-4)


def test_an_emotion_is_found_where_the_model_has_it_not_where_the_table_puts_it():
    vectors, axes = planted()
    tensor = vectors.tensor.clone()
    moved = vectors.index("joy")
    shift = -0.8 - RUSSELL["joy"].valence, 0.1 - RUSSELL["joy"].arousal
    tensor[:, moved] += shift[0] * axes[:, 0] + shift[1] * axes[:, 1]
    found = positions_of(EmotionVectors(NAMES, tensor, "block"), RUSSELL, ridge=0.0)
    angle = math.degrees(math.atan2(found["joy"][1], found["joy"][0]))
    assert angle == pytest.approx(math.degrees(math.atan2(0.1, -0.8)), abs=0.1)


def test_the_unit_is_that_of_the_table():
    vectors, _ = planted(noise=0.6)
    found = positions_of(vectors, RUSSELL, ridge=50.0)
    assert np.mean([math.hypot(*place) ** 2 for place in found.values()]) == pytest.approx(1.0)


def test_an_emotion_without_coordinates_is_located_too():
    vectors, axes = planted()
    new = vectors["joy"] + 0.3 * axes[:, 0] - 0.9 * axes[:, 1]
    joined = {name: vectors[name] for name in NAMES} | {"confusion": new}
    found = positions_of(EmotionVectors.from_tensors(joined), RUSSELL)
    joy = RUSSELL["joy"]
    assert found["confusion"] == pytest.approx((joy.valence + 0.3, joy.arousal - 0.9), abs=1e-4)


def test_layer_weights_choose_the_layers():
    vectors, _ = planted()
    tensor = vectors.tensor.clone()
    tensor[1] = 100 * torch.randn(tensor[1].shape, generator=torch.Generator().manual_seed(1))
    noisy = EmotionVectors(NAMES, tensor, "block")
    found = positions_of(noisy, RUSSELL, layer_weights=(1.0, 0.0, 1.0), ridge=0.0)
    assert agreement(found, RUSSELL).cosine == pytest.approx(1.0)
    assert agreement(positions_of(noisy, RUSSELL, ridge=0.0), RUSSELL).cosine < 0.9
    for bad, why in [((1.0,), f"needs {LAYERS} numbers"), ((1.0, math.nan, 1.0), "finite")]:
        with pytest.raises(EmokernelError, match=why):
            positions_of(noisy, RUSSELL, layer_weights=bad)


def test_an_emotion_without_which_the_others_lie_on_a_line_is_left_out():
    table = Coordinates({"a": (-1, 0), "b": (0, 0), "c": (0.5, 0), "d": (1, 0), "up": (0, 1)})
    found = positions_of(planted(table, tuple(table))[0], table)
    assert list(found) == ["a", "b", "c", "d"]
    assert found["d"] == pytest.approx((1, 0), abs=1e-3)


def test_three_emotions_locate_none():
    with pytest.raises(EmokernelError, match=r"no emotion can be located .* at least 4"):
        positions_of(planted(names=NAMES[:3])[0], RUSSELL)


def test_vectors_that_are_zero_in_the_weighted_layers_have_no_positions():
    vectors, _ = planted()
    with pytest.raises(EmokernelError, match="are zero in every layer"):
        positions_of(vectors, RUSSELL, layer_weights=[0.0] * vectors.num_layers)


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
