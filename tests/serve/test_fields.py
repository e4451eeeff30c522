"""What the fields of a body ask for, in every form in which they can be sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel import Affect, Request
from emokernel.errors import SteeringError
from emokernel.serve.fields import take_request

MIX = {"joy": 0.5, "fear": -0.25}


@pytest.mark.parametrize(
    ("emotion", "wanted"),
    [
        ("joy", "joy"),
        ("", ""),  # no name that vectors have: they say so
        (None, None),
        ("null", "null"),
        (MIX, MIX),
        (["joy", 0.5, "fear", -0.25], MIX),
        ([], {}),
        ('{"joy": 0.5, "fear": -0.25}', MIX),
        (' \n{"joy": 1}', {"joy": 1}),
        ("{}", {}),
        ({"valence": 0.5, "arousal": -0.5}, Affect(0.5, -0.5)),
        ('{"valence": 0.5, "arousal": -0.5, "intensity": 0.5}', Affect(0.25, -0.25)),
        (["valence", 0.5, "arousal", -0.5], Affect(0.5, -0.5)),
        # A name beside the coordinates is a mix, and is told of as such.
        ({"valence": 0.5, "joy": 1}, {"valence": 0.5, "joy": 1}),
    ],
)
def test_an_emotion_in_each_of_its_forms(emotion, wanted):
    body = {"emotion": emotion, "strength": 0.5, "positions": "all", "prompt": "text"}
    assert take_request(body) == Request(wanted, 0.5, positions="all")
    assert body == {"prompt": "text"}


@given(st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False),
                       max_size=9))  # fmt: skip
def test_text_and_flat_list_say_what_the_object_says(mix):
    flat = [part for pair in mix.items() for part in pair]
    wanted = take_request({"emotion": mix}) if mix else Request({})
    assert take_request({"emotion": json.dumps(mix)}) == wanted
    assert take_request({"emotion": flat}) == wanted


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"valence": 0.5, "arousal": -0.5}, Affect(0.5, -0.5)),
        ({"valence": 0.5, "arousal": -0.5, "intensity": 0.5}, Affect(0.25, -0.25)),
        ({"valence": 1, "arousal": 1, "intensity": 0}, Affect(0.0, 0.0)),
        ({"valence": 0, "arousal": 0}, Affect(0.0, 0.0)),
    ],
)
def test_a_point_may_stand_beside_the_other_fields(fields, wanted):
    body = {**fields, "law": "add", "dose": "absolute", "n": 2}
    assert take_request(body) == Request(wanted, law="add", dose="absolute")
    assert body == {"n": 2}
    assert take_request({"emotion": fields}) == Request(wanted)


def test_who_says_nothing_asks_for_nothing():
    body = {"prompt": "text"}
    assert take_request(body) is None
    assert body == {"prompt": "text"}


DEEP = 100_000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strength": 1}, "strength without emotion"),
        ({"law": "add", "positions": "all"}, "law, positions without emotion"),
        ({"emotion": "joy", "valence": 1, "arousal": 0}, "valence, arousal beside emotion"),
        ({"emotion": None, "intensity": 1}, "intensity beside emotion"),
        ({"intensity": 1}, "needs the numbers valence and arousal"),
        ({"valence": 1}, "needs the numbers valence and arousal"),
        ({"valence": "1", "arousal": 0}, "needs the numbers"),
        ({"valence": True, "arousal": 0}, "needs the numbers"),
        ({"valence": None, "arousal": 0}, "needs the numbers"),
        ({"valence": 1, "arousal": float("nan")}, "needs the numbers"),
        ({"valence": 1, "arousal": 0, "intensity": None}, "needs the numbers"),
        ({"valence": 1, "arousal": 0, "intensity": -0.1}, "intensity counts from 0"),
        ({"emotion": {"intensity": 1}}, "needs the numbers"),
        ({"emotion": ["joy"]}, r"\[name, weight, name, weight"),
        ({"emotion": [0.5, "joy"]}, r"\[name, weight, name, weight"),
        ({"emotion": ["joy", 1, ["fear"], 1]}, r"\[name, weight, name, weight"),
        ({"emotion": ["joy", 1, "joy", 2]}, "names each once"),
        ({"emotion": '{"joy": 1'}, "emotion is no JSON"),
        ({"emotion": "{joy: 1}"}, "emotion is no JSON"),
        ({"emotion": '{"joy": 1, "joy": 2}'}, "emotion is no JSON: .*given twice"),
        ({"emotion": '{"joy": 1} {"fear": 1}'}, "emotion is no JSON"),
        ({"emotion": '{"a":' * 4000 + "1" + "}" * 4000}, "characters at most"),
        ({"emotion": '{"a":' * 3000 + "1" + "}" * 3000}, "emotion is no JSON: .*recursion"),
        ({"emotion": '{"a": ' + "9" * 5000 + "}"}, "emotion is no JSON"),
        ({"emotion": '{"' + "x" * 20_000 + '": 1}'}, "20000 characters at most"),
        ({"emotion": '{"' + "x" * 201 + '": 1}'}, "200 characters at most"),
        ({"emotion": ["x" * 201, 1]}, "200 characters at most"),
        ({"emotion": "x" * 201}, "200 characters at most"),
        ({"emotion": [part for n in range(65) for part in (f"e{n}", 1)]}, "names 65 emotions"),
        ({"emotion": json.dumps({f"e{n}": 1 for n in range(65)})}, "names 65 emotions"),
        ({"emotion": "joy", "law": 1}, "law must be a text"),
        ({"emotion": "joy", "dose": ["absolute"]}, "dose must be a text"),
        ({"emotion": "joy", "positions": "x" * 201}, "200 characters at most"),
    ],
    ids=lambda given: repr(given)[:40],
)
def test_what_is_none_of_these_is_refused_in_a_line(fields, message):
    with pytest.raises(SteeringError, match=message) as told:
        take_request(fields)
    assert len(str(told.value)) < 500
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "emotion",
    ['{"joy": NaN}', '{"joy": Infinity}', ["joy", float("inf")], '{"joy": "1"}', ["joy", True],
     '{"joy": [1]}', 3, {"joy": None}],
)  # fmt: skip
def test_weights_that_are_none_are_left_to_who_knows_the_vectors(emotion, vectors):
    """It refuses them, whatever they came in."""
    from emokernel.affect.mixes import Mixer
    from emokernel.presets import settle
    from emokernel.requests import Resolver

    resolve = Resolver(Mixer(vectors()), settle(vectors()))
    with pytest.raises(SteeringError, match=r"must be a finite number|an emotion is a name"):
        resolve(take_request({"emotion": emotion}))
