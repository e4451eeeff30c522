"""How judges are compared, by hand."""

from __future__ import annotations

import pytest
import torch
from embedded import compare_judges
from embedded.compare_judges import Measured, differences, label_thresholds
from embedded.relabel import Example

LABELS = ("joy", "anger")
ROWS = [("a", ("joy",)), ("b", ("joy", "anger")), ("c", ("anger",)), ("d", ("anger",))]


class Told:
    """A judge that says what it is told."""

    labels, multi_label = LABELS, False

    def __init__(self, **joy):
        self.name, self.joy = "told", joy

    def probabilities(self, texts):
        return torch.tensor([[self.joy[text], 1 - self.joy[text]] for text in texts])


@pytest.fixture
def measured(monkeypatch, tmp_path):
    examples = [Example(*row) for row in ROWS]
    monkeypatch.setattr(compare_judges, "heldout_examples", lambda data, part: examples)
    return lambda **joy: Measured(Told(**joy), tmp_path)


def test_by_hand(measured):
    right, wrong = measured(a=0.9, b=0.6, c=0.2, d=0.1), measured(a=0.9, b=0.6, c=0.9, d=0.1)
    assert right.figures["macro_f1"] == 1
    # Joy of a, b and c; the anger of c is lost, or joy is said of it too.
    assert wrong.figures["f1"]["joy"] == pytest.approx(0.8)
    assert wrong.figures["accuracy_single_label"] == pytest.approx(2 / 3, abs=1e-4)
    gap = differences(right, wrong)
    assert gap["accuracy_any_label"]["difference"] == pytest.approx(0.25)
    assert gap["accuracy_any_label"]["low"] == 0 < gap["accuracy_any_label"]["high"]
    assert set(differences(right, right)["macro_f1"].values()) == {0}


def test_each_label_gets_its_best_threshold():
    probabilities = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    joy, anger = label_thresholds(probabilities, targets).tolist()
    assert 0.5 < joy <= 0.9
    assert 0.1 < anger <= 0.5
