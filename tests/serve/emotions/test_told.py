"""What was asked for, as a client is told it."""

from __future__ import annotations

import json

import pytest

from emokernel import Affect, Request, patch
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.serve.emotions.told import coordinates_of, told


def test_a_mix_lies_at_the_sum_of_its_parts(embedded):
    _, _, steering = embedded
    table = coordinates_of(steering)
    half, whole, against, far = told(
        steering,
        [
            Request({"joy": 0.25, "fear": 0.25}),
            Request("joy"),
            Request({"joy": -1.0}, strength=2),
            Request({"joy": 3.0, "love": 3.0}),
        ],
    )
    joy, fear, love = table["joy"], table["fear"], table["love"]
    assert half.place.valence == pytest.approx((joy.valence + fear.valence) / 4, abs=1e-5)
    assert half.place.arousal == pytest.approx((joy.arousal + fear.arousal) / 4, abs=1e-5)
    assert whole.place.valence == pytest.approx(joy.valence, abs=1e-5)
    assert against.place.valence == pytest.approx(-joy.valence, abs=1e-5)
    length = (far.place.valence**2 + far.place.arousal**2) ** 0.5
    assert length == pytest.approx(1, abs=1e-5)
    assert far.place.arousal / far.place.valence == pytest.approx(
        (joy.arousal + love.arousal) / (joy.valence + love.valence), abs=1e-4
    )


def test_weights_are_what_the_kernels_are_given(embedded):
    _, _, steering = embedded
    strengths = steering.calibration.strengths["add relative"]
    (joy, nothing, neutral) = told(
        steering,
        [Request("joy", 0.5, law="add", dose="relative"), None, Request(Affect(0.0, 0.0))],
    )
    assert joy.mix == {"joy": pytest.approx(0.5 * strengths["joy"])}
    assert nothing is None
    assert neutral.mix == {}
    assert json.loads(neutral.model_dump_json())["place"] == {"valence": 0.0, "arousal": 0.0}


def test_axes_have_names_of_their_own():
    model, _ = load_model()
    steering = patch(model, load_vectors(), mapping="axes")
    (point,) = told(steering, [Request(Affect(0.5, -0.5))])
    assert set(point.mix) == {"valence axis", "arousal axis"}
    assert point.mix["valence axis"] > 0 > point.mix["arousal axis"]
