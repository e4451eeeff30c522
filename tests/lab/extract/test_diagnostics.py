"""The diagnostics against what one computes by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from emokernel.lab.extract.diagnostics import diagnose, suggest_profile
from emokernel.lab.extract.samples import Group, Rows

VECTORS = np.array([[[1.0, 0.0], [0.0, 2.0]]])
VALUES = np.array([[[3, 0], [1, 0], [0, 5], [0, -1], [2, 2], [0, 0]]], np.float32)
HELDOUT = [Group("joy", [0, 1], [4, 5], True), Group("fear", [2, 3], [4, 5], True)]


def area(positive, negative):
    """The share of pairs in the right order; half of one that is equal."""
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    return sum(pairs) / len(pairs)


def diagnosed(**changes):
    arguments = {
        "vectors": VECTORS, "training_vectors": VECTORS,
        "rows": Rows(VALUES, np.array([1, 1, 1, 1, 1, 5])),
        "lengths": np.array([[1.0, 1, 1, 1, 1, 3]]), "heldout": HELDOUT,
        "layers": [1], "num_layers": 3, "site": "attention",
    }  # fmt: skip
    return diagnose(**{**arguments, **changes})


def test_areas_are_shares_of_pairs_in_order():
    found = diagnosed()
    assert found["auc_neutral"] == [None, [0.75, area([10, -2], [4, 0])], None]
    assert found["auc_others"] == [None, [1.0, area([10, -2], [0, 0])], None]
    assert found["heldout_texts"] == {"joy": 2, "fear": 2}


def test_areas_are_those_of_the_vectors_of_the_training_part():
    turned = diagnosed(training_vectors=-VECTORS)
    assert turned["auc_neutral"][1] == [0.25, 0.5]
    assert turned["cosine"] == diagnosed()["cosine"]


def test_lengths_cosines_and_base():
    third = np.array([[[1.0, 1.0], [0.0, 2.0]]])
    found = diagnosed(vectors=third)
    assert found["stream_norm"] == [None, 2.0, None]
    assert found["relative_norm"][1] == pytest.approx([np.sqrt(2) / 2, 1.0])
    assert np.array(found["cosine"][1]) == pytest.approx(
        np.array([[1, np.sqrt(0.5)], [np.sqrt(0.5), 1]])
    )
    assert found["base_share"][1] == pytest.approx(2 * (0.5**2 + 1.5**2) / 6)
    assert diagnosed(vectors=VECTORS * 0)["base_share"][1] == 0.0


def test_without_held_out_text_there_are_no_areas():
    found = diagnosed(training_vectors=None, heldout=[Group("joy", [], [], True)] * 2)
    assert found["auc_neutral"][1] == found["auc_others"][1] == [None, None]
    assert found["suggested_profile"] is None
    assert json.loads(json.dumps(found)) == found


def test_one_emotion_has_no_others():
    found = diagnosed(vectors=VECTORS[:, :1], training_vectors=VECTORS[:, :1], heldout=HELDOUT[:1])
    assert found["auc_others"][1] == [None]
    assert found["suggested_profile"] == [0.0, 1.0, 0.0]


def test_the_profile_is_how_far_layers_lie_above_chance():
    neutral = [[0.7, 0.7], None, [1.0, 1.0], [0.3, 0.1], [0.6, 0.6], [0.5, 0.5]]
    others = [[0.7, 0.7], None, [0.8, 0.8], [0.3, 0.1], [None, None], [0.5, 0.5]]
    assert suggest_profile(neutral, others, "attention") == pytest.approx(
        [0.5, 0.0, 1.0, 0.0, 0.25, 0.0]
    )
    assert suggest_profile(neutral, others, "block") == pytest.approx([0.5, 0, 1, 0, 0, 0])


def test_no_layer_above_chance_has_no_weight():
    assert suggest_profile([[0.4]], [[0.2]], "attention") == [0.0]
