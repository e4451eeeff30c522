"""The ceiling: counts by hand, the interval, and what the judges of the package ship with."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emokernel.affect import Affect, Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.ceiling import ceiling, confusion, shipped
from emokernel.lab.judges import TRANSFORMER
from emokernel.lab.judges.goemotions_minilm import GoEmotionsMiniLM
from emokernel.lab.judges.judge import CalibrationJudge, Judge

TABLE = Coordinates({"east": (1.0, 0.0), "north": (0.0, 1.0), "west": (-1.0, 0.0)})
STATES = (Affect.at(80), Affect.at(10), Affect.at(350))
COUNTS = {
    "north": {"north": 3, "west": 1},
    "east": {"east": 6, "neutral": 2},
    "neutral": {"neutral": 9},
}


class Echo:
    """A classifier that reads a text's first word."""

    name, multi_label = "echo", False
    labels = ("joy", "anger", "neutral")

    def probabilities(self, texts):
        return torch.tensor([[float(text.startswith(of)) for of in self.labels] for text in texts])


def of(counts=COUNTS, **options):
    return ceiling(counts, TABLE, **{"judge": "j", "source": "s", "states": STATES} | options)


def test_by_hand():
    found = of()
    ten, eighty = math.cos(math.radians(10)), math.cos(math.radians(80))
    cosines = [(3 * ten - eighty) / 4, 0.75 * ten, 0.75 * ten]
    assert [state.label for state in found.states] == ["north", "east", "east"]
    assert [state.texts for state in found.states] == [4, 8, 8]
    assert [state.cosine for state in found.states] == pytest.approx(cosines)
    assert found.cosine.mean == pytest.approx(sum(cosines) / 3)
    pooled_north = math.cos(math.atan2(3, -1) - math.radians(80))
    assert found.pooled == pytest.approx((pooled_north + 2 * ten) / 3)
    assert (found.judge, found.source, found.least) == ("j", "s", 1)


def test_the_interval_is_that_of_the_texts():
    # The share of one label among 100 texts: its standard error is 0.05.
    found = of({"east": {"east": 50, "neutral": 50}}, states=[Affect.at(0)]).cosine
    assert found.mean == 0.5
    assert 0.39 < found.low < 0.42 < 0.58 < found.high < 0.61
    sure = of({"east": {"east": 50}}, states=[Affect.at(0), Affect.at(60)]).cosine
    assert (sure.low, sure.high) == (pytest.approx(0.75), pytest.approx(0.75))


def test_labels_with_few_texts_are_not_taken():
    assert [state.label for state in of(least=5).states] == ["east"] * 3
    assert of(least=10) is None
    with pytest.raises(EmokernelError, match="none of the labels neutral has a direction"):
        of({"neutral": {"east": 4}})


def test_of_equally_near_labels_it_is_the_one_with_the_higher_cosine():
    for good in ("north", "west"):
        counts = {label: {label if label == good else "east": 5} for label in ("north", "west")}
        assert of(counts, states=[Affect.at(135)]).states[0].label == good


def test_labels_under_other_names_have_the_place_of_their_emotion():
    found = of({"right": {"rightish": 2}}, labels_of={"east": ["right", "Rightish"]})
    assert found.states[1].cosine == found.states[2].cosine == pytest.approx(math.cos(math.pi / 18))


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*TABLE, "neutral"]),
        st.dictionaries(st.sampled_from([*TABLE, "neutral"]), st.integers(1, 9), min_size=1),
        min_size=1,
    ).filter(lambda counts: set(counts) != {"neutral"})
)
def test_bounds_and_order(counts):
    found = of(counts)
    assert -1 <= found.cosine.low <= found.cosine.mean + 1e-9
    assert found.cosine.mean - 1e-9 <= found.cosine.high <= 1
    turned = {label: dict(reversed(tops.items())) for label, tops in reversed(counts.items())}
    again = of(turned)
    assert again.cosine.mean == pytest.approx(found.cosine.mean)
    assert [state.label for state in again.states] == [state.label for state in found.states]


def test_confusion_counts_top_labels():
    texts = ["joy a", "anger b", "joy c", "neutral d"]
    counts = confusion(Echo(), texts, ["joy", "joy", "joy", "anger"])
    assert counts == {"anger": {"neutral": 1}, "joy": {"anger": 1, "joy": 2}}
    assert shipped(Echo()) is None


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [(Judge, 0.55, 0.6), (CalibrationJudge, 0.55, 0.6), (GoEmotionsMiniLM, 0.6, 0.65)],
)
def test_the_judges_ship_with_their_counts(kind, least, most):
    name = TRANSFORMER if kind is GoEmotionsMiniLM else kind.name
    counts = shipped(SimpleNamespace(name=name, folder=kind.folder))
    labels = set(Judge.load().labels)
    assert set(counts) == labels >= {top for tops in counts.values() for top in tops}
    # The rows of GoEmotions test that have one label, 1606 of them neutral.
    assert sum(sum(tops.values()) for tops in counts.values()) == 4590
    assert sum(counts["neutral"].values()) == 1606
    right = sum(tops.get(label, 0) for label, tops in counts.items()) / 4590
    assert least < right < most
    one, thirty = (
        ceiling(counts, Coordinates.named("russell"), judge=name, source="x", least=least)
        for least in (1, 30)
    )
    assert min(state.texts for state in one.states) == 7
    assert min(state.texts for state in thirty.states) >= 30
    assert one.cosine.mean < thirty.cosine.mean < 0.6
