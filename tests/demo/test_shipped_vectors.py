"""The vectors that ship."""

from __future__ import annotations

import pytest

from emokernel import EmokernelError
from emokernel.affect import TWELVE_STATES, Coordinates
from emokernel.demo.models import load_vectors
from emokernel.demo.named import EMBEDDED, SMOLLM2


@pytest.mark.parametrize("name", [EMBEDDED, SMOLLM2])
def test_the_vectors_that_ship_are_calibrated_and_all_of_ekmans(name):
    vectors = load_vectors(name)
    assert vectors.calibration is not None
    assert {"joy", "sadness", "anger", "fear", "disgust", "surprise"} <= set(vectors.names)


def test_a_model_without_vectors_is_told_how_to_get_some(tmp_path):
    with pytest.raises(EmokernelError, match=r"emokernel extract .* makes them"):
        load_vectors(str(tmp_path))


def test_no_state_of_the_circle_is_far_from_an_emotion_of_smollm2():
    table = Coordinates.named("russell")
    angles = [table.angle(name) for name in load_vectors(SMOLLM2).names]
    for state in TWELVE_STATES:
        apart = [abs((angle - state.angle + 180) % 360 - 180) for angle in angles if angle]
        assert min(apart) <= 17
