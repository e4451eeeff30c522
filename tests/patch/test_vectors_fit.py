"""Vectors with another number of layers than the model: the error says what may be the matter."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from emokernel import EmotionVectors, patch
from emokernel.errors import ModelStructureError

FOREIGN = "belong to another model.*extract vectors from this model"


def some_vectors(layers, width=64):
    return EmotionVectors(("joy",), torch.randn(layers, 1, width), "block")


@pytest.mark.parametrize(
    ("layers", "width", "message"),
    [
        (4, 64, r"embeddings.*dataclasses\.replace\(vectors, tensor=vectors\.tensor\[1:\]\)$"),
        (2, 64, r"load\(path, num_layers=3\).*--num-layers 3; else extract"),
        (1, 64, r"num_layers=3"),
        (5, 64, FOREIGN),
        (4, 32, FOREIGN),
        (2, 32, FOREIGN),
        (3, 32, FOREIGN),
    ],
)
def test_the_error_says_what_may_be_the_matter(layers, width, message, tiny):
    with pytest.raises(ModelStructureError, match=message) as caught:
        patch(tiny(), some_vectors(layers, width))
    assert ("embeddings" in str(caught.value)) == ((layers, width) == (4, 64))
    assert ("num_layers" in str(caught.value)) == (layers < 3 and width == 64)


def test_what_it_says_works(tiny, tmp_path):
    model = tiny()
    with_embeddings = some_vectors(4)
    without = dataclasses.replace(with_embeddings, tensor=with_embeddings.tensor[1:])
    patch(model, without).unpatch()
    torch.save(torch.randn(2, 64), tmp_path / "joy.pt")
    patch(model, EmotionVectors.load(tmp_path / "joy.pt", num_layers=3)).unpatch()
