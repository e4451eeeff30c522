"""Strengths of equal divergence."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from emokernel import Affect, EmokernelError
from emokernel.errors import SteeringError
from emokernel.lab.measure import equal_doses as of_doses
from emokernel.lab.measure.encoding import encoded
from emokernel.lab.measure.equal_doses import Ask, divergences, equal_doses

TEXTS = [f"w{n} w{n + 1} w{n + 2} w{n + 3} w{n + 4}" for n in range(20, 24)]
TARGETS = (0.05, 0.2, 0.6)


@pytest.fixture
def texts(tokenizer):
    return encoded(tokenizer, TEXTS)


@pytest.mark.parametrize("scale", [1e-4, 0.2, 300.0])
@pytest.mark.parametrize("dose", ["absolute", "relative"])
@pytest.mark.parametrize("law", ["add", "preserve"])
def test_each_strength_has_the_divergence_it_was_asked_for(
    law, dose, scale, model, patched, vectors, texts
):
    steering = patched(vectors(scale=scale))
    asks = [Ask(name, name, law, dose) for name in ("joy", "anger")]
    asks.append(Ask("90", Affect(0.0, 1.0), law, dose))
    doses = equal_doses(model, steering, texts, asks, TARGETS)
    assert list(doses) == asks
    for ask, of in doses.items():
        found = divergences(model, steering, texts, [ask.at(s) for s in of.values()]).tolist()
        assert found == pytest.approx(list(of), rel=0.2)
        assert list(of.values()) == sorted(of.values())
    assert all(0.05 in of for of in doses.values())


def test_what_no_strength_reaches_gives_way_to_the_largest_divergence(
    model, patched, vectors, texts
):
    steering = patched(vectors())
    doses = equal_doses(model, steering, texts, [Ask("joy", "joy", "preserve", "absolute")], [
        0.05, 50.0
    ])  # fmt: skip
    ((_, of),) = doses.items()
    least, largest = of
    assert least == 0.05
    assert 0.05 < largest < 50
    ask = Ask("joy", "joy", "preserve", "absolute")
    more = divergences(model, steering, texts, [ask.at(of[largest]), ask.at(4 * of[largest])])
    assert more[0].item() == pytest.approx(largest, rel=0.01)
    assert more[1].item() < 1.05 * largest


def test_vectors_that_move_nothing_are_an_error(model, patched, vectors, texts):
    made = vectors().merged(vectors().select(["joy"]).renamed({"joy": "nothing"}).scaled(0.0))
    steering = patched(made)
    with pytest.raises(EmokernelError, match="'nothing' is zero in every steered layer"):
        equal_doses(model, steering, texts, [Ask("nothing", "nothing", "add", "absolute")], TARGETS)


def test_vectors_that_are_far_too_short_are_an_error(model, patched, vectors, texts):
    steering = patched(vectors(scale=1e-12))
    with pytest.raises(EmokernelError, match="far too short"):
        equal_doses(model, steering, texts, [Ask("joy", "joy", "add", "absolute")], TARGETS)


def test_progress_is_told_for_every_row(model, patched, vectors, texts):
    told = []
    asks = [Ask("joy", "joy", "add", "absolute")]
    equal_doses(model, patched(vectors()), texts, asks, TARGETS, told.append)
    assert sum(told) % len(TEXTS) == 0
    assert 3 * len(TEXTS) <= sum(told) <= 8 * len(TEXTS)


@pytest.mark.parametrize("targets", [[], [0.0], [0.1, -0.2], [math.nan], [math.inf]])
def test_a_dose_that_is_no_divergence_is_refused(targets, model, patched, vectors, texts):
    steering = patched(vectors())
    with pytest.raises(EmokernelError, match="doses are nats per token above 0"):
        equal_doses(model, steering, texts, [Ask("joy", "joy", "add", "absolute")], targets)


@given(
    st.lists(
        st.one_of(
            st.floats(-1e-6, 30), st.sampled_from([0.0, -1e-9, math.nan, math.inf, -math.inf])
        ),
        min_size=8, max_size=40,
    )
)  # fmt: skip
def test_measured_divergences_of_any_kind_give_strengths_or_an_error(measured):
    values = iter(measured)

    def divergences(_, __, ___, requests, *____):
        return torch.tensor([next(values, 1.0) for _ in requests], dtype=torch.float64)

    ask = Ask("joy", "joy", "add", "absolute")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(of_doses, "divergences", divergences)
        try:
            found = equal_doses(None, None, None, [ask], TARGETS)[ask]
        except SteeringError:
            return
    assert found
    assert all(0 < strength < math.inf for strength in found.values())


def test_between_a_divergence_and_what_blows_up_there_are_rungs():
    known = {0.1: 0.0001, 0.5: 0.001, 32.0: math.nan}
    assert of_doses._more(known, 0.0005, 1.0, 2.0) == pytest.approx([0.224, 4.0], rel=0.01)
