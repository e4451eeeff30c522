"""What two judges find in one emotion, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from emokernel.lab.evaluate.judged import judged, separation

A, B = (SimpleNamespace(name=name, emotions=known) for name, known in (("a", "joy fear".split()),
                                                                       ("b", ["joy"])))  # fmt: skip


def records(a, b):
    return [{"intended": {"a": one, "b": other}} for one, other in zip(a, b, strict=True)]


def test_by_hand():
    # Unsteered texts know the probability of every emotion, those of an emotion that one alone.
    plain = records([{"joy": 0.1}, {"joy": 0.3}], [{"joy": 0.0}, {"joy": 0.5}])
    steered = records([0.2, 0.4, 0.9], [0.5, 0.6, 0.1])
    (found,) = judged(plain, {"fear": steered, "joy": steered}, (A, B))
    assert (found.emotion, found.unsteered["a"]) == ("joy", pytest.approx(0.2))
    assert found.steered == {"a": pytest.approx(0.5), "b": pytest.approx(0.4)}
    # Of 6 pairs a finds 5 in order; b 4, and one is a tie.
    assert found.separation == {"a": pytest.approx(5 / 6), "b": pytest.approx(4.5 / 6)}
    # Ranks 1 2 3 and 2 3 1.
    assert found.correlation == pytest.approx(-0.5)
    assert judged(plain, {"joy": steered}, (A,)) == []


def test_separation_is_one_half_by_chance_and_one_at_best():
    assert separation([0.5, 0.5], [0.5]) == 0.5
    assert separation([0.6, 0.7], [0.5, 0.1]) == 1
    assert separation([0.1], [0.5]) == 0
