"""What strength 1.0 is with a calibration, and when the calibration holds."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch

from emokernel import Affect, EmokernelError, EmotionVectors, Request, patch
from emokernel.affect import Axes, Coordinates, Wheel
from emokernel.errors import SteeringError, VectorsFileError
from emokernel.vectors.calibration import Calibration

PROFILE = (0.0, 0.5, 2.0)
STRENGTHS = {
    "preserve absolute": {"anger": 3.0, "joy": 0.25, "sadness": 1.5, "surprise": 2.0},
    "add relative": {"anger": 0.02, "joy": 0.01, "sadness": 0.03, "surprise": 0.04},
}
FACTORS = tuple(1.0 + number / 10 for number in range(12))


@pytest.fixture
def calibrated(vectors):
    def make(**changes) -> EmotionVectors:
        calibration = Calibration(
            "attention", PROFILE, "preserve", "absolute", "wheel", "russell", STRENGTHS,
            {"preserve absolute wheel": FACTORS, "preserve absolute axes": FACTORS},
        )  # fmt: skip
        return vectors().with_calibration(replace(calibration, **changes))

    return make


@pytest.fixture
def logits(tiny, prompts):
    """The logits of a model patched with these vectors and options, under a request."""
    model = tiny()

    def of(vectors, emotion, strength=1.0, options=None, **asked):
        steering = patch(model, vectors, **options or {})
        try:
            steering.set(emotion, strength, **asked)
            with torch.no_grad():
                return model(prompts).logits
        finally:
            steering.unpatch()

    return of


def test_strength_one_is_the_calibrated_weight_and_profile(calibrated, vectors, logits):
    by_hand = vectors().with_profile(PROFILE)
    expected = logits(by_hand, "anger", 3.0 * 0.7, {"site": "attention"})
    torch.testing.assert_close(logits(calibrated(), "anger", 0.7), expected)
    mix = {"anger": 0.5, "joy": 0.5}
    expected = logits(by_hand, {"anger": 1.5, "joy": 0.125}, 1.0, {"site": "attention"})
    torch.testing.assert_close(logits(calibrated(), mix), expected)


def test_the_profile_holds_for_relative_doses_too(calibrated, vectors, logits):
    """A relative dose divides by the norm of the vector, so the profile must not be part of it."""
    one_layer = calibrated(profile=(0.0, 0.0, 2.0))
    expected = logits(
        vectors().at_layers([2]), "anger", 2 * 0.02, {"law": "add", "dose": "relative"}
    )
    torch.testing.assert_close(logits(one_layer, "anger", law="add", dose="relative"), expected)


def test_law_and_dose_are_the_calibrated_ones_unless_given(calibrated, logits):
    other = calibrated(law="add", dose="relative")
    assert torch.equal(
        logits(other, "joy"), logits(calibrated(), "joy", law="add", dose="relative")
    )
    assert torch.equal(
        logits(other, "joy", options={"law": "preserve", "dose": "absolute"}),
        logits(calibrated(), "joy"),
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "calibrated, law 'preserve', dose 'absolute', mapping 'wheel'"),
        ({"layers": [1, 2], "dose": "relative"}, "calibrated, law 'preserve', dose 'relative'"),
        ({"positions": "last"}, "at positions 'all', not 'last'"),
        ({"calibrated": False}, "the vector as it is (calibrated=False)"),
        ({"site": "block"}, "the vector as it is (they were calibrated at site 'attention')"),
        ({"layers": [2]}, "the vector as it is (they were calibrated for the layers [1, 2])"),
        ({"preset": "emotion-vectors"}, "(the preset 'emotion-vectors' has doses of its own)"),
    ],
)
def test_the_report_says_whether_the_calibration_holds(options, told, calibrated, tiny):
    steering = patch(tiny(), calibrated(), **options)
    assert told in str(steering.report()).splitlines()[-1]


def test_vectors_as_they_are_without_calibration(calibrated, vectors, logits):
    raw = {"calibrated": False}
    assert torch.equal(logits(calibrated(), "anger", options=raw), logits(vectors(), "anger"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "block"}, "calibrated=True, but they were calibrated at site 'attention'"),
        ({"preset": "emotion-vectors"}, "calibrated=True, but the preset"),
    ],
)
def test_a_calibration_that_cannot_hold_is_refused_if_asked_for(
    options, message, calibrated, vectors, tiny
):
    with pytest.raises(SteeringError, match=message):
        patch(tiny(), calibrated(), calibrated=True, **options)
    with pytest.raises(SteeringError, match="the vectors have no calibration"):
        patch(tiny(), vectors(), calibrated=True)


def test_what_has_not_been_calibrated_is_refused(calibrated, tiny):
    steering = patch(tiny(), calibrated())
    with pytest.raises(SteeringError, match="'joy' has not been calibrated for law='add'"):
        steering.set("joy", law="add")
    with pytest.raises(EmokernelError, match="Did you mean 'joy'"):
        steering.set("jou")
    some = {"preserve absolute": {"anger": 1.0}}
    steering.unpatch()
    steering = patch(steering._model, calibrated(strengths=some))
    with pytest.raises(SteeringError, match="'joy' has not been calibrated"):
        steering.requests(["joy"]).__enter__()


@pytest.mark.parametrize(("angle", "factor"), [(0, 1.0), (60, 1.2), (75, 1.25), (345, 1.55)])
def test_points_of_the_circle_have_factors_of_their_own(angle, factor, calibrated, vectors, logits):
    point = Affect.at(angle, 0.5)
    weights = Wheel(vectors().names, Coordinates.named("russell")).mix(point)
    mix = {name: w * factor * STRENGTHS["preserve absolute"][name] for name, w in weights.items()}
    torch.testing.assert_close(
        logits(calibrated(), point), logits(vectors().with_profile(PROFILE), mix)
    )


def test_another_table_has_no_factors_but_keeps_the_strengths(calibrated, vectors, logits):
    table = Coordinates({"joy": {"angle": 10.0}, "anger": {"angle": 100.0}}, name="mine")
    point = Affect.at(10.0)
    assert torch.equal(
        logits(calibrated(), point, options={"coordinates": table}),
        logits(calibrated(), "joy"),
    )


def test_points_by_the_axes(calibrated, vectors, logits, tiny):
    axes = Axes(vectors(), Coordinates.named("russell"))
    merged = vectors().merged(axes.vectors)
    point = Affect(0.3, -0.4)
    expected = logits(merged, {"valence": 0.3, "arousal": -0.4})
    torch.testing.assert_close(logits(vectors(), point, options={"mapping": "axes"}), expected)
    factor = calibrated().calibration.factor("preserve absolute axes", point.angle)
    expected = logits(
        merged.with_profile(PROFILE), {"valence": 0.3 * factor, "arousal": -0.4 * factor}
    )
    options = {"mapping": "axes"}
    torch.testing.assert_close(logits(calibrated(), point, options=options), expected)
    steering = patch(tiny(), calibrated(circle={}), mapping="axes")
    with pytest.raises(SteeringError, match="not been calibrated for preserve absolute axes"):
        steering.set(point)
    with pytest.raises(SteeringError, match="unknown mapping 'square'"):
        patch(tiny(), vectors(), mapping="square")


def test_what_no_dose_strengthens_is_refused_instead_of_doing_nothing(calibrated, tiny, vectors):
    zero = {"preserve absolute": {"anger": 3.0, "joy": 0.0, "sadness": 0.0, "surprise": 2.0}}
    model = tiny()
    steering = patch(model, calibrated(strengths=zero))
    with pytest.raises(SteeringError, match=r"no dose within the bounds .* towards 'joy'"):
        steering.set("joy")
    steering.set({"joy": 0.5, "anger": 0.5})
    with pytest.raises(SteeringError, match=r"no dose within the bounds .* towards Affect"):
        steering.set(Affect.at(Coordinates.named("russell").angle("joy")))
    steering.unpatch()
    circle = {"preserve absolute wheel": (0.0,) * 12, "preserve absolute axes": (0.0,) * 12}
    for mapping in ("wheel", "axes"):
        steering = patch(model, calibrated(circle=circle), mapping=mapping)
        with pytest.raises(SteeringError, match=r"no dose within the bounds .* towards Affect"):
            steering.set(Affect(0.5, 0.5))
        steering.set(Affect(0.0, 0.0))
        steering.unpatch()


@pytest.mark.parametrize("layers", [[0, 99], 1, [[1]]])
def test_layers_that_make_no_sense_are_refused_with_a_calibration_too(layers, calibrated, tiny):
    with pytest.raises(
        EmokernelError, match=r"no such layers: \[99\]|needs a list of layer numbers"
    ):
        patch(tiny(), calibrated(), layers=layers)


def test_calibrated_vectors_can_be_copied_and_pickled(calibrated):
    vectors = calibrated(table={"joy": (1.0, 0.0)}, record={"n": 1})
    for twin in (copy.deepcopy(vectors), pickle.loads(pickle.dumps(vectors))):
        assert twin.calibration == vectors.calibration
        assert torch.equal(twin.tensor, vectors.tensor)


def test_a_deep_copy_is_calibrated_too(calibrated, tiny, prompts):
    model = tiny()
    patch(model, calibrated()).set(Affect(0.0, 1.0), 0.5)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        assert torch.equal(twin(prompts).logits, model(prompts).logits)


def test_requests_of_a_batch_are_calibrated_each(calibrated, logits, tiny, prompts):
    model = tiny()
    steering = patch(model, calibrated())
    with torch.no_grad(), steering.requests(["anger", Request("joy", 2.0), None, "sadness"]):
        together = model(prompts).logits
    for row, (emotion, strength) in enumerate([("anger", 1.0), ("joy", 2.0)]):
        torch.testing.assert_close(
            together[row], logits(calibrated(), emotion, strength)[row], rtol=1e-4, atol=1e-4
        )


def test_the_factor_of_the_circle_is_linear_between_states(calibrated):
    calibration = calibrated().calibration
    key = "preserve absolute wheel"
    assert calibration.factor(key, 30) == pytest.approx(1.1)
    assert calibration.factor(key, 375) == pytest.approx(1.05)
    assert calibration.factor(key, -30) == pytest.approx(2.1)
    assert calibration.factor(key, 359.999999) == pytest.approx(1.0, abs=1e-5)
    assert calibration.factor("add absolute wheel", 0) is None


def test_a_calibration_survives_a_file(calibrated, tmp_path):
    vectors = calibrated(record={"judge": "somebody", "measured": [1, 2.5]})
    vectors.save(tmp_path / "v.safetensors")
    assert EmotionVectors.load(tmp_path / "v.safetensors").calibration == vectors.calibration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strengths": {"preserve absolute": {"joy": -1.0}}}, "finite numbers"),
        ({"profile": (float("nan"),) * 3}, "finite numbers"),
        ({"law": "add"}, "no strengths for the chosen law and dose"),
        ({"circle": {"preserve absolute wheel": (1.0,)}}, "12 factors"),
        ({"profile": (1.0,)}, "for 1 layers, the vectors have 3"),
        ({"profile": (0.0,) * 3}, "zero in every layer"),
    ],
)
def test_contradictory_calibrations_are_refused(change, message, calibrated):
    with pytest.raises(EmokernelError, match=message):
        calibrated(**change)


def test_what_is_no_calibration_is_refused(calibrated, tmp_path, monkeypatch):
    monkeypatch.setattr("emokernel.vectors.formats.native.asdict", lambda of: {"site": of.site})
    calibrated().save(tmp_path / "v.safetensors")
    with pytest.raises(VectorsFileError, match=r"v\.safetensors is damaged .*missing 7 required"):
        EmotionVectors.load(tmp_path / "v.safetensors")
