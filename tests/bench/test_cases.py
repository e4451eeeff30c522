"""The situations in which variants are compared, and the names of the variants."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emokernel import EmotionVectors
from emokernel.bench.cases import (
    BLENDS,
    CHOICES,
    DIFFERENT,
    MIXES,
    ONE,
    VARIANTS,
    Case,
    cases,
    with_baselines,
)
from emokernel.errors import EmokernelError

NAMES = ("anger", "joy", "sadness", "surprise")


def distinct(case: Case) -> int:
    return len({tuple(sorted(mix.items())) for mix in case.asked(NAMES) if mix})


@given(st.integers(1, 40), st.sampled_from((0.0, 0.25, 0.5, 1.0)), st.sampled_from(MIXES))
def test_as_many_sequences_and_mixes_as_said(batch, share, mixes):
    case = Case(batch, 8, share, mixes)
    asked = case.asked(NAMES)
    steered = round(share * batch)
    assert len(asked) == batch
    assert [mix is not None for mix in asked] == [True] * steered + [False] * (batch - steered)
    assert distinct(case) == case.distinct == (min(1, steered) if mixes == ONE else steered)
    sizes = {len(mix) for mix in asked if mix}
    assert sizes <= {3 if mixes == BLENDS else 1}


def test_rows_of_the_hooks_are_the_same_mixes():
    vectors = EmotionVectors.from_tensors({name: torch.randn(2, 6) for name in NAMES})
    case = Case(3, 8, 2 / 3, BLENDS)
    rows = case.vectors(vectors)
    assert rows.shape == (2, 3, 1, 6)
    for row, mix in enumerate(case.asked(NAMES)):
        expected = sum((w * vectors[name] for name, w in (mix or {}).items()), torch.zeros(2, 6))
        torch.testing.assert_close(rows[:, row, 0], expected)


def test_cases_that_are_the_same_come_once():
    found = cases([1, 4], [8], [0, 0.5, 1], [ONE, DIFFERENT, BLENDS])
    told = [(case.batch, case.steered, case.mixes) for case in found]
    assert told == [
        (1, 0, ONE), (1, 1, ONE), (1, 1, BLENDS), (4, 0, ONE), (4, 2, ONE), (4, 2, DIFFERENT),
        (4, 2, BLENDS), (4, 4, ONE), (4, 4, DIFFERENT), (4, 4, BLENDS),
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [10, 100])
def test_a_share_is_rounded_to_whole_sequences(batch):
    for number in range(batch + 1):
        (case,) = cases([batch], [8], [number / batch], [ONE])
        assert case.steered == number  # 0.29 * 100 is no 29 in floating point
    (case,) = cases([3], [8], [0.6, 0.7], [ONE])
    assert (case.steered, case.share) == (2, 2 / 3)
    (case,) = cases([batch], [8], [0.001], [ONE])
    assert case.steered == 1


def test_blends_need_three_emotions():
    with pytest.raises(EmokernelError, match="blends need at least 3 emotions, these vectors have"):
        Case(2, 8, 1.0, BLENDS).asked(NAMES[:2])


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


@pytest.mark.parametrize("name", ["fast", "unpatched_again"])
def test_unknown_variants_are_refused(name):
    with pytest.raises(EmokernelError, match=f"unknown variant '{name}': choose from unpatched"):
        with_baselines([name])
