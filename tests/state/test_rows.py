"""Which slot a row has: one function for every engine, in numpy and in tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emokernel.choices import POSITIONS
from emokernel.state.rows import by_kind, token_slot

_REQUESTS = st.lists(
    st.tuples(
        st.integers(-1, 9), st.sampled_from(list(POSITIONS)), st.integers(0, 12),
        st.integers(1, 9), st.integers(0, 6),
    ),
    max_size=6,
)  # fmt: skip


def one_by_one(requests):
    """The slots of all rows, said token by token."""
    slots = []
    for slot, positions, computed, prompt, tokens in requests:
        for place in range(computed, computed + tokens):
            kind = "prompt" if place < prompt - 1 else "last" if place == prompt - 1 else "made"
            steered = {
                "all": ("prompt", "last", "made"), "prompt": ("prompt", "last"),
                "generated": ("made",), "last": ("last", "made"),
            }[positions]  # fmt: skip
            slots.append(slot if kind in steered else -1)
    return slots


@given(_REQUESTS)
def test_numpy_and_tensors_say_what_each_token_says(requests):
    slots = [by_kind(slot, POSITIONS[positions]) for slot, positions, *_ in requests]
    slots = np.array(slots, dtype=np.int32).reshape(-1, 3)
    numbers = np.array([rest for _, _, *rest in requests], dtype=np.int64).reshape(-1, 3)
    computed, prompt, tokens = numbers.T
    wanted = one_by_one(requests)
    said = token_slot(slots, computed, prompt, tokens)
    assert (said.tolist(), said.dtype) == (wanted, np.int32)
    tensors = [torch.from_numpy(np.ascontiguousarray(each)) for each in (slots, *numbers.T)]
    for rows in (None, len(wanted)):
        said = token_slot(*tensors, rows=rows)
        assert (said.tolist(), said.dtype) == (wanted, torch.int32)


@pytest.mark.parametrize("kind", list(POSITIONS))
def test_the_last_prompt_token_is_the_one_before_the_first_generated(kind):
    slots = torch.tensor([by_kind(7, POSITIONS[kind])])
    one, three = torch.tensor([1]), torch.tensor([3])
    last = token_slot(slots, torch.tensor([2]), three, one)
    first = token_slot(slots, three, three, one)
    assert [last.item() == 7, first.item() == 7] == list(POSITIONS[kind][1:])
