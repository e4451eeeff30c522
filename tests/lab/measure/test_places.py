"""Where label probabilities lie by another table than Russell's."""

from __future__ import annotations

import torch

from emokernel.affect import Coordinates
from emokernel.lab.measure.classifiers import affect_of


def test_the_table_says_where_labels_lie():
    table = Coordinates({"joy": (0.5, 0.25), "neutral": (0.0, -0.5)})
    points = affect_of(torch.tensor([[0.5, 0.25, 0.25]]), ["joy", "neutral", "anger"], table)
    torch.testing.assert_close(points, torch.tensor([[0.25, 0.0]]))
