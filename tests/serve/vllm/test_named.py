"""The vectors of a vLLM server are what `emokernel.patch` would steer by, and told from others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import LAYERS

from emokernel import EmotionVectors, patch
from emokernel.engines.vllm.settings import Settings
from emokernel.errors import EmokernelError, SteeringError, UnknownEmotionError
from emokernel.serve.fields import take_request
from emokernel.serve.vllm.named import NamedVectors, load
from emokernel.vectors.calibration import Calibration

CALIBRATION = Calibration(
    "attention", [0.0, 0.5, 2.0], "preserve", "absolute", "wheel", "russell",
    {"preserve absolute": {"anger": 3.0, "joy": 0.25, "sadness": 1.5, "surprise": 2.0}},
    {"preserve absolute wheel": tuple(1.0 + number / 10 for number in range(12))}, {},
)  # fmt: skip


@pytest.fixture
def saved(vectors, tmp_path):
    """``saved(calibrated, scale)``: the path of a file."""

    def save(calibrated=False, scale=0.2, calibration=CALIBRATION):
        made = vectors(scale=scale)
        if calibrated:
            made = made.with_calibration(calibration)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        made.save(path)
        return str(path)

    return save


def named(path, **said):
    return NamedVectors(Settings(vectors=path, **said))


REQUESTS = [
    {"emotion": "joy"},
    {"emotion": "joy", "strength": 0.5, "law": "add", "positions": "last"},
    {"emotion": {"joy": 0.5, "anger": 0.25}, "positions": "prompt"},
    {"emotion": ["joy", 0.5, "anger", 0.25]},
    {"valence": 0.5, "arousal": 0.5, "intensity": 0.5},
]
OPTIONS = [
    (False, {}),
    (True, {}),
    (True, {"calibrated": False}),
    (True, {"site": "block"}),
    (False, {"layers": (0, 2), "law": "add", "positions": "generated"}),
    (False, {"dose": "relative", "mapping": "axes"}),
    (False, {"preset": "emotion-vectors"}),
]


@pytest.mark.parametrize(("calibrated", "options"), OPTIONS)
def test_a_server_chooses_what_patch_would(calibrated, options, saved, tiny):
    path = saved(calibrated)
    made = named(path, **options)
    steering = patch(tiny(), EmotionVectors.load(path), **options)
    chosen = steering._resolve.choices
    assert (made.site, made.layers) == (chosen.site, chosen.layers)
    assert made.told.endswith(f"; strength 1.0: {chosen.strengths}")
    (state,) = steering.requested.states.devices
    # Layers that are not steered are zero, and the profile counts beside the vectors.
    assert torch.equal(made.tensor, state.basis)
    others = sorted(set(range(LAYERS)) - set(made.layers))
    assert not made.tensor[others].any()
    assert made.tensor[made.layers].flatten(1).any(1).all()
    profile = torch.ones(LAYERS) if made.profile is None else made.profile
    assert torch.equal(profile, state._profile)
    for asked in REQUESTS:
        wanted = told(lambda asked=asked: steering.requested.resolve(take_request(dict(asked))))
        assert told(lambda asked=asked: made.resolve(dict(asked))) == wanted


def told(resolve):
    """What a request is, or why it cannot be."""
    try:
        return resolve()
    except SteeringError as error:
        return str(error)


def test_what_asks_for_nothing_has_no_mix(saved):
    made = named(saved())
    for asked in ({}, {"emotion": None}, {"valence": 0, "arousal": 0}, {"other": 1}):
        extra = dict(asked)
        assert made.resolve(extra).mix is None
        assert extra == {name: value for name, value in asked.items() if name == "other"}
    with pytest.raises(UnknownEmotionError, match="Did you mean 'joy'"):
        made.resolve({"emotion": "joyy"})


def test_the_digest_is_that_of_what_steers_and_of_nothing_else(saved):
    plain, calibrated = saved(), saved(True)
    other = replace(CALIBRATION, profile=[0.0, 0.5, 1.0])
    made = [
        named(plain), named(saved(scale=0.3)), named(plain, site="block"),
        named(plain, layers=(0, 1)), named(plain, layers=(1, 2)), named(calibrated),
        named(calibrated, calibrated=False, layers=(1, 2)), named(saved(True, 0.2, other)),
        named(plain, mapping="axes"),
    ]  # fmt: skip
    digests = [each.of for each in made]
    # The same vectors, layers and site, without a profile: a calibration says no more then.
    assert digests[6] == digests[4]
    del digests[6]
    assert len(set(digests)) == len(digests)
    same = [named(plain), named(saved()), named(calibrated, calibrated=False),
            named(plain, law="add"), named(plain, positions="last"),
            named(plain, layers=(2, 1, 0))]  # fmt: skip
    assert {each.of for each in same} == {digests[0]}


def test_calibrations_that_differ_in_strength_alone_share_a_digest(saved):
    """Strengths are in the numbers that travel with a request."""
    strengths = {"preserve absolute": {**CALIBRATION.strengths["preserve absolute"], "joy": 0.5}}
    other = named(saved(True, 0.2, replace(CALIBRATION, strengths=strengths)))
    first = named(saved(True))
    assert other.of == first.of
    assert other.resolve({"emotion": "joy"}) != first.resolve({"emotion": "joy"})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"site": "nowhere"}, "nowhere"), ({"law": "cubic"}, "cubic"),
        ({"layers": (0, 9)}, "9"), ({"preset": "mine"}, "unknown preset"),
        ({"mapping": "square"}, "square"), ({"calibrated": True}, "no calibration"),
        ({"coordinates": "none such"}, "none such"), ({"positions": "first"}, "first"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(said, message, saved):
    with pytest.raises(EmokernelError, match=message):
        named(saved(), **said)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(EmokernelError, match=r"there is no file .*name the vectors of this server"):
        named(str(tmp_path / "none"))


def test_a_file_is_read_once(saved):
    path = saved()
    assert load(Settings(vectors=path)) is load(Settings(vectors=path))
