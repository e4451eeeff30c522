"""The first batch: who is in it, and what may not be shown is drawn again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emokernel import patch
from emokernel.affect import Coordinates
from emokernel.demo.model import SAMPLING, load_model, openings
from emokernel.demo.showing.batch import around, dosed, speak
from emokernel.demo.vectors import load_vectors
from emokernel.lab.evaluate.prompting import prompting
from emokernel.lab.measure import generation

RUSSELL = Coordinates.named("russell")
NAMES = ("joy", "amusement", "gratitude", "sadness", "anger", "caring", "fear", "saudade")


def test_the_chosen_ones_lie_all_around_in_the_order_of_their_angles():
    chosen = around(NAMES, RUSSELL, 4)
    angles = [RUSSELL.angle(name) for name in chosen]
    assert angles == sorted(angles)
    gaps = [(b - a) % 360 for a, b in zip(angles, [*angles[1:], angles[0]], strict=True)]
    assert max(gaps) < 160
    assert around(NAMES, RUSSELL, 20)[-1] == "saudade"
    assert set(around(NAMES, RUSSELL, 20)) == set(NAMES)


def test_an_emotion_without_a_dose_is_not_asked_for():
    vectors = load_vectors()
    strengths = {key: {**of, "joy": 0.0} for key, of in vectors.calibration.strengths.items()}
    weak = vectors.with_calibration(replace(vectors.calibration, strengths=strengths))
    steering = patch(load_model()[0], weak)
    assert dosed(steering) == [name for name in vectors.names if name != "joy"]


@pytest.fixture(scope="module")
def spoken():
    model, tokenizer = load_model()
    asked = prompting(tokenizer, embedded=True, openings=openings(), coordinates=RUSSELL)
    steering = patch(model, load_vectors())
    return lambda accept: speak(
        model, tokenizer, steering, asked, openings()[2], ["joy", "anger"], 1.5,
        sampling=SAMPLING, accept=accept,
    )  # fmt: skip


def test_all_of_it_is_one_batch(spoken, monkeypatch):
    calls, sample = [], generation.sample
    monkeypatch.setattr(
        generation,
        "sample",
        lambda *given, **more: calls.append(more["requests"]) or sample(*given, **more),
    )
    batch = spoken(lambda _: True)
    assert [[each and (each.emotion, each.strength) for each in call] for call in calls] == [
        [None, ("joy", 1.5), ("anger", 1.5)]
    ]
    assert list(batch.texts) == ["unsteered", "joy", "anger"]
    assert len(set(batch.texts.values())) == 3
    assert batch.redrawn == 0
    assert batch.about.startswith("3 answers of at most 28 tokens in one batch")
    assert batch.about.endswith(f"at strength 1.5: {batch.seconds:.1f} s.")


def test_what_may_not_be_shown_is_drawn_again_and_told(spoken):
    first = spoken(lambda _: True).texts
    refused = first["joy"]
    batch = spoken(lambda text: text != refused)
    assert batch.texts["joy"] != refused
    assert batch.texts | {"joy": refused} == first
    assert batch.redrawn == 1
    assert batch.about.endswith("1 of them drawn again.")
