"""The cases of a sweep, what their sequences ask for, and the names of the variants."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emokernel import EmotionVectors
from emokernel.bench.cases import BLENDS, DIFFERENT, ONE, Case, cases, numbers_of, sweep
from emokernel.bench.variants import CHOICES, VARIANTS, compared, with_baselines
from emokernel.errors import EmokernelError

NAMES = ("anger", "joy", "sadness", "surprise")


def distinct(case: Case) -> int:
    return len({tuple(sorted(mix.items())) for mix in case.asked(NAMES) if mix})


@given(
    st.integers(1, 40),
    st.sampled_from((0.0, 0.25, 0.5, 1.0)),
    st.integers(1, 40),
    st.integers(1, len(NAMES)),
)
def test_as_many_sequences_mixes_and_vectors_as_said(batch, share, mixes, components):
    for case in cases([batch], [8], [share], [mixes], [components]):
        asked = case.asked(NAMES)
        steered = case.steered
        assert steered == (max(1, round(share * batch)) if share else 0)
        assert len(asked) == batch
        assert [mix is not None for mix in asked] == [True] * steered + [False] * (batch - steered)
        assert distinct(case) == case.distinct == (mixes if steered else 0)
        assert {len(mix) for mix in asked if mix} <= {components}
        assert all(sum(mix.values()) <= 1 + 1e-9 for mix in asked if mix)


def test_rows_of_the_hooks_are_the_same_mixes():
    vectors = EmotionVectors.from_tensors({name: torch.randn(2, 6) for name in NAMES})
    case = Case(3, 8, 2 / 3, 2, 3)
    rows = case.vectors(vectors)
    assert rows.shape == (2, 3, 1, 6)
    for row, mix in enumerate(case.asked(NAMES)):
        expected = sum((w * vectors[name] for name, w in (mix or {}).items()), torch.zeros(2, 6))
        torch.testing.assert_close(rows[:, row, 0], expected)


def test_cases_that_are_the_same_come_once():
    found = cases([1, 4], [8], [0, 0.5, 1], [ONE, 1, DIFFERENT, BLENDS, 4], [1, 3])
    told = [(case.batch, case.steered, case.mixes, case.components) for case in found]
    assert told == [
        (1, 0, 0, 1), (1, 1, 1, 1), (1, 1, 1, 3), (4, 0, 0, 1),
        (4, 2, 1, 1), (4, 2, 1, 3), (4, 2, 2, 1), (4, 2, 2, 3),
        (4, 4, 1, 1), (4, 4, 1, 3), (4, 4, 4, 1), (4, 4, 4, 3),
    ]  # fmt: skip
    assert len({case.slug for case in found}) == len(found)


def test_more_mixes_than_steered_sequences_cannot_be():
    found = sweep([1, 8], [8], [0.5, 1], [1, 8])
    assert [(case.steered, case.mixes) for case in found.cases] == [(1, 1), (4, 1), (8, 1), (8, 8)]
    assert [(case.steered, case.mixes) for case in found.left_out] == [(1, 8), (4, 8)]


@pytest.mark.parametrize("batch", [10, 100])
def test_a_share_is_rounded_to_whole_sequences(batch):
    for number in range(batch + 1):
        (case,) = cases([batch], [8], [number / batch], [ONE])
        assert case.steered == number  # 0.29 * 100 is no 29 in floating point
    (case,) = cases([3], [8], [0.6, 0.7], [ONE])
    assert (case.steered, case.share) == (2, 2 / 3)
    (case,) = cases([batch], [8], [0.001], [ONE])
    assert case.steered == 1


def test_a_mix_needs_as_many_emotions():
    with pytest.raises(EmokernelError, match="3 vectors a mix, but there are 2 emotions: at most"):
        Case(2, 8, 1.0, 2, 3).asked(NAMES[:2])
    with pytest.raises(EmokernelError, match="--components are 1 to 8 vectors, got 9"):
        cases([1], [8], [1], [ONE], [9])


def test_layers_are_read_and_told():
    assert numbers_of("8-10, 3,9") == [3, 8, 9, 10]
    for wrong in ("", "8-", "9-8", "x", "1,,2", "-1"):
        with pytest.raises(EmokernelError, match="are no layers: write all, 15, 8-15 or 8-15,20"):
            numbers_of(wrong)
    vectors = EmotionVectors.from_tensors({"joy": torch.ones(4, 6)})
    found = cases([1], [8], [1], [ONE], [1], ["all", "0-3", "3,1-2", "1-3", "2"])
    assert [case.layers for case in found] == ["all", "0-3", "1-3", "2"]
    assert [case.located(vectors).layers for case in found] == ["all", "all", "1-3", "2"]
    with pytest.raises(EmokernelError, match="4"):
        Case(layers="2-4").steered_layers(vectors)


def test_baselines_come_with_what_is_compared_with_them():
    names = [variant.name for variant in with_baselines(["emokernel_compiled", "plain_hook"])]
    assert names == [
        "unpatched", "unpatched_again", "plain_hook", "unpatched_compiled",
        "unpatched_compiled_again", "emokernel_compiled",
    ]  # fmt: skip
    for name in CHOICES:
        baseline = VARIANTS[VARIANTS[name].baseline]
        assert (baseline.mode, baseline.steering) == (VARIANTS[name].mode, "nothing")
        assert VARIANTS[VARIANTS[name].noise].again
        rival = VARIANTS[name].hook
        assert rival is None or VARIANTS[rival].law == VARIANTS[name].law


def test_two_are_compared_with_the_noise_of_the_first():
    found = compared("plain_hook", "emokernel_compiled")
    assert [(variant.name, variant.again) for variant in found] == [
        ("plain_hook", False), ("plain_hook_again", True), ("emokernel_compiled", False),
    ]  # fmt: skip
    assert {(v.baseline, v.noise) for v in found} == {("plain_hook", "plain_hook_again")}
    with pytest.raises(EmokernelError, match="is one variant: name two"):
        compared("emokernel", "emokernel")


@pytest.mark.parametrize("name", ["fast", "unpatched_again"])
def test_unknown_variants_are_refused(name):
    for refused in (lambda: with_baselines([name]), lambda: compared("emokernel", name)):
        with pytest.raises(EmokernelError, match=f"unknown variant '{name}': choose from unpatche"):
            refused()
