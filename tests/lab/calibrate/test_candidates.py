"""Sites and layer profiles that are tried."""

from __future__ import annotations

from dataclasses import replace

import torch

from emokernel import EmotionVectors
from emokernel.affect import Coordinates
from emokernel.lab.calibrate.candidates import candidates


def made(layers, present=None, **diagnostics):
    tensor = torch.ones(layers, 2, 4)
    if present is not None:
        tensor[[layer for layer in range(layers) if layer not in present]] = 0
    vectors = EmotionVectors(("joy", "anger"), tensor, "block")
    return replace(vectors, diagnostics=diagnostics)


def profiles(found):
    return {
        candidate.name: [n for n, w in enumerate(candidate.profile) if w] for candidate in found
    }


def test_profiles_of_a_deep_model():
    assert profiles(candidates([made(12)], ["block"])) == {
        "site block, all layers": list(range(12)),
        "site block, early layers": [0, 1, 2, 3, 4, 5],
        "site block, middle layers": [3, 4, 5, 6, 7, 8],
        "site block, late layers": [6, 7, 8, 9, 10, 11],
        "site block, second quarter": [3, 4, 5],
        "site block, middle third": [4, 5, 6, 7],
        "site block, third quarter": [6, 7, 8],
        "site block, one layer at half": [6],
        "site block, one layer at two thirds": [8],
    }


def test_one_file_is_tried_at_its_site_and_then_at_the_other_and_of_several_each_at_its_own():
    own = candidates([made(2)])
    assert {c.site for c in own} == {"block"}
    twins = [twin for c in own for twin in c.twins]
    assert {(twin.site, twin.profile) for twin in twins} == {("attention", c.profile) for c in own}
    assert not any(c.twins for c in candidates([made(2)], ["block"]))
    other = replace(made(2), site="attention")
    block = made(2)
    assert not any(c.twins for c in candidates([other, block]))
    found = {(c.name.partition(",")[0], c.site) for c in candidates([other, block])}
    assert found == {("file 1", "attention"), ("file 2", "block")}


def test_none_is_tried_twice():
    found = candidates([made(1), made(2)], ["attention", "block"])
    keys = [(id(c.vectors), c.site, c.profile) for c in found]
    assert len(set(keys)) == len(keys)
    assert {c.profile for c in found if c.vectors.num_layers == 1} == {(1.0,)}
    assert {c.name.partition(",")[0] for c in found} == {"file 1", "file 2"}
    assert {c.site for c in found} == {"attention", "block"}


def test_layers_without_vectors_are_not_steered():
    found = candidates([made(6, present=(1, 2))], ["block"])
    assert all(set(of) <= {1, 2} for of in profiles(found).values())
    assert all(profiles(found).values())


def test_what_the_extraction_suggests_is_tried():
    suggested = [0.0, 0.5, 1.0, 0.0]
    (first, *_) = candidates([made(4, suggested_profile=suggested)], ["block"])
    assert first.profile == tuple(suggested)


def test_raw_strengths_are_the_weights_themselves():
    (candidate, *_) = candidates([made(4)], ["attention"])
    table = Coordinates({"joy": {"angle": 10.0}}, name="mine")
    doses = [("add", "relative"), ("preserve", "absolute")]
    calibration = candidate.raw(doses, table).calibration
    assert (calibration.site, calibration.law, calibration.dose) == ("attention", "add", "relative")
    assert set(calibration.strengths) == {"add relative", "preserve absolute"}
    assert all(set(of.values()) == {1.0} for of in calibration.strengths.values())
    assert calibration.table["joy"] == (table["joy"].valence, table["joy"].arousal)
    assert not candidate.raw(doses, Coordinates.named("russell")).calibration.table
    changed = Coordinates({"joy": {"angle": 200.0}}, name="russell")
    assert candidate.raw(doses, changed).calibration.table
