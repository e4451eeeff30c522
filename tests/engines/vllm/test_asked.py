"""What travels with a request: what was asked comes through as it was, and nothing else does."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel.choices import POSITIONS
from emokernel.engines.vllm.asked import ASKING, KEY, KINDS, asks, check, held, packed
from emokernel.errors import SteeringError
from emokernel.reference import Law
from emokernel.state import Asked, Mix
from emokernel.state.mix import HEAD

JOY = Mix(((3, 0.5), (1, -0.25)), Law.PRESERVE)
ALL = POSITIONS["all"]

_MIXES = st.builds(
    Mix,
    st.lists(
        st.tuples(st.integers(0, 99), st.floats(-4, 4, width=32).filter(bool)),
        min_size=1, max_size=8,
    ).map(tuple),
    st.sampled_from(list(Law)),
)  # fmt: skip
_KINDS = st.sampled_from([kinds for kinds in KINDS if any(kinds)])


def params(given, **more):
    return SimpleNamespace(extra_args={KEY: given, **more})


def copies(given):
    """``given`` as processes hand it on."""
    return copy.deepcopy(given), pickle.loads(pickle.dumps(given))


@given(_MIXES, _KINDS)
def test_what_was_asked_comes_through(mix, kinds):
    given = packed(Asked(mix, kinds), "digest")
    for each in copies(given):
        assert each == given
        check(params(each), "digest")
        taken = held(params(each))
        assert KINDS[taken["kinds"]] == kinds
        *words, law = HEAD.unpack(taken["head"])[:9]
        weights = HEAD.unpack(taken["head"])[9:]
        count = len(mix.components)
        assert tuple(zip(words, weights, strict=True))[:count] == mix.components
        assert not any(weights[count:])
        assert law == mix.law


@given(_MIXES, _MIXES, _KINDS, st.sampled_from(["a", "b"]))
def test_the_key_tells_mixes_and_vectors_from_others(one, other, kinds, of):
    first, second = packed(Asked(one, kinds), "a"), packed(Asked(other, ALL), of)
    assert (first["key"] == second["key"]) is (one.head == other.head and of == "a")


@pytest.mark.parametrize(
    "asked",
    [
        Asked(None, ALL),
        Asked(JOY, (False, False, False)),
        Asked(Mix(()), ALL),
        Asked(Mix(((3, 0.0), (1, 0.0))), ALL),
    ],
)
def test_who_asks_for_nothing_has_nothing(asked):
    assert not asks(asked)
    assert packed(asked, "digest") is None


@pytest.mark.parametrize("sampling", [None, SimpleNamespace(), SimpleNamespace(extra_args=None),
                                      SimpleNamespace(extra_args={"other": 1})])  # fmt: skip
def test_a_request_without_ours_is_let_through(sampling):
    assert held(sampling) is None
    check(sampling, "digest")
    check(sampling, None)


@pytest.mark.parametrize("name", sorted(ASKING))
def test_what_a_foreign_front_end_hands_on_is_refused(name):
    with pytest.raises(SteeringError, match=f"{name} came to the engine as it was sent"):
        check(SimpleNamespace(extra_args={name: None}), "digest")


GOOD = packed(Asked(JOY, ALL), "digest")


@pytest.mark.parametrize(
    "forged",
    [
        "joy",
        [],
        {},
        {"head": GOOD["head"]},
        {**GOOD, "more": 1},
        {**GOOD, "head": GOOD["head"].decode("latin1")},
        {**GOOD, "head": GOOD["head"][:-4]},
        {**GOOD, "head": b""},
        {**GOOD, "kinds": 0},
        {**GOOD, "kinds": 8},
        {**GOOD, "kinds": -1},
        {**GOOD, "kinds": True},
        {**GOOD, "kinds": 7.0},
        {**GOOD, "key": 1},
        {**GOOD, "of": None},
    ],
    ids=repr,
)
def test_forged_forms_are_refused(forged):
    with pytest.raises(SteeringError, match="reserved"):
        check(params(forged), "digest")


@pytest.mark.parametrize("of", ["another", None])
def test_numbers_of_other_vectors_are_refused(of):
    with pytest.raises(SteeringError, match="restart the server"):
        check(params(GOOD), of)
