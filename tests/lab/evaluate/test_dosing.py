"""Which texts the doses of an evaluation are measured on, and what the journal keeps them by."""

from __future__ import annotations

import math

import pytest

from emokernel import patch
from emokernel.errors import SteeringError
from emokernel.lab.evaluate import dosing
from emokernel.lab.evaluate.dosing import Doses
from emokernel.lab.evaluate.plan import Plan
from emokernel.lab.measure.journal import Journal


@pytest.fixture
def measured_on(model, tokenizer, word_emotions, asked, settings, monkeypatch):
    """``measured_on(pairs, journal)``: the doses, and the pairs that were encoded for them."""
    steering = patch(model, word_emotions)
    plan, plain, seen = Plan(steering, asked, settings), dosing.encoded, []

    def encoded(tokenizer, pairs, **options):
        seen.append(list(pairs))
        return plain(tokenizer, pairs, **options)

    monkeypatch.setattr(dosing, "encoded", encoded)

    def measure(pairs, journal):
        made = Doses(model, tokenizer, plan, pairs, journal, progress=False)
        return made, seen[-1]

    yield measure
    steering.unpatch()


def test_the_longest_texts_are_taken(measured_on):
    pairs = [(f"w{n}", " w1" * (n % 30 + 1)) for n in range(40)]
    _, chosen = measured_on(pairs, Journal(None, {}))
    assert len(chosen) == 24
    assert min(len(answer) for _, answer in chosen) == sorted(len(a) for _, a in pairs)[-24]


def test_other_texts_have_other_doses(measured_on):
    journal = Journal(None, {})
    first, _ = measured_on([("w20 w21", " w1 w2 w3")] * 2, journal)
    same, _ = measured_on([("w20 w21", " w1 w2 w3")] * 2, journal)
    other, _ = measured_on([("w30 w31", " w41 w5 w6 w7")] * 2, journal)
    assert first.equal() == same.equal() != other.equal()
    assert first.of_strengths() == same.of_strengths() != other.of_strengths()


@pytest.mark.parametrize("made", [0.0, -1e-9, math.nan, math.inf, 1e-6])
def test_a_dose_that_makes_something_else_when_it_is_measured_is_an_error(
    made, measured_on, monkeypatch
):
    of_dose, _ = measured_on([("w20 w21", " w1 w2 w3")] * 2, Journal(None, {}))
    monkeypatch.setattr(of_dose, "_measured", lambda requests, _: [made] * len(requests))
    with pytest.raises(SteeringError, match=r"nats per token makes .* when it is measured again"):
        of_dose.equal()
