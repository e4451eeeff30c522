"""A buffer says by tensor operations what a plan says by Python."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emokernel.choices import POSITIONS
from emokernel.engines.compiled.plan_buffer import PlanBuffer, token_slot
from emokernel.engines.plan import BatchPlan, PaddedBatch, RecordedPrompts
from emokernel.errors import SteeringError
from emokernel.state import DeviceState

CPU = torch.device("cpu")


def a_mask(draw: st.DrawFn, rows: int, width: int) -> torch.Tensor:
    """Prompts padded on either side, or on both, or without any token."""
    mask = torch.zeros(rows, width, dtype=torch.long)
    for row in mask:
        first = draw(st.integers(0, width))
        row[first : draw(st.integers(first, width))] = 1
    return mask


@st.composite
def cases(draw: st.DrawFn) -> tuple[BatchPlan, RecordedPrompts | None, PaddedBatch]:
    """A plan, the prompts of `generate` if one runs, and a call that both fit."""
    entries = draw(st.integers(1, 4))
    batch = entries * draw(st.integers(1, 3))
    tokens, past, width = (draw(st.integers(low, 6)) for low in (1, 0, 1))
    slots = draw(st.lists(st.integers(-1, 5), min_size=entries, max_size=entries))
    positions = [draw(st.sampled_from(list(POSITIONS.values()))) for _ in slots]
    lengths = draw(st.none() | st.just([draw(st.integers(0, 8)) for _ in slots]))
    prompts, widest = None, 9
    if draw(st.booleans()):
        widest = width  # whoever gives `requests` a mask as well gives it that of the prompts
        rows = draw(st.sampled_from([entries, batch]))
        prompts = RecordedPrompts(width, a_mask(draw, rows, width) if draw(st.booleans()) else None)
    recorded = a_mask(draw, entries, draw(st.integers(1, widest))) if draw(st.booleans()) else None
    mask = None
    # The mask that `generate` passes in every step agrees with the one it was given.
    if draw(st.booleans()) and (prompts is None or prompts.mask is not None):
        mask = a_mask(draw, batch, past + tokens)
    as_tensor = draw(st.booleans())
    call = PaddedBatch(batch, tokens, torch.tensor(past) if as_tensor else past, mask, prompts)
    return BatchPlan(slots, positions, lengths, recorded), prompts, call


@settings(max_examples=600, deadline=None)
@given(cases())
def test_a_buffer_says_what_its_plan_says(case):
    plan, prompts, call = case
    buffer = PlanBuffer(16, CPU)
    buffer.show(plan, prompts)
    state = DeviceState(torch.ones(1, 1, 8), 6, CPU, torch.float32)
    rows = call.batch * call.tokens
    wanted = plan.token_slot(call, state)[:rows]
    assert token_slot(buffer, call).tolist() == wanted.tolist()
    assert not buffer.take_misfit()


def test_without_a_plan_nothing_is_steered():
    buffer = PlanBuffer(4, CPU)
    buffer.show(BatchPlan([2], [POSITIONS["all"]]), None)
    buffer.show(None, None)
    assert token_slot(buffer, PaddedBatch(2, 3, 0, None, None)).tolist() == [-1] * 6


def test_only_the_prompt_part_of_a_wider_mask_says_where_the_prompt_ends():
    """The columns behind it hold what was generated."""
    mask = torch.tensor([[0, 1, 1, 1]])
    plan = BatchPlan([1], [POSITIONS["last"]], attention_mask=mask)
    prompts = RecordedPrompts(2, None)
    buffer = PlanBuffer(2, CPU)
    buffer.show(plan, prompts)
    call = PaddedBatch(1, 4, 0, None, prompts)
    state = DeviceState(torch.ones(1, 1, 8), 6, CPU, torch.float32)
    assert token_slot(buffer, call).tolist() == plan.token_slot(call, state)[:4].tolist()
    assert token_slot(buffer, call).tolist() == [-1, 1, 1, 1]


def test_a_batch_that_does_not_fit_is_left_alone_and_told_once():
    buffer = PlanBuffer(4, CPU)
    buffer.show(BatchPlan([0, 1], [POSITIONS["all"]] * 2), None)
    assert token_slot(buffer, PaddedBatch(3, 1, 0, None, None)).tolist() == [-1] * 3
    assert buffer.take_misfit()
    assert not buffer.take_misfit()
    assert token_slot(buffer, PaddedBatch(4, 1, 0, None, None)).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("prompts", [None, RecordedPrompts(4, None)])
def test_a_mask_with_holes_is_refused_and_nothing_changes(prompts):
    buffer = PlanBuffer(4, CPU)
    buffer.use()
    before = buffer.words.clone()
    mask = torch.tensor([[1, 0, 1, 1]])
    with pytest.raises(SteeringError, match="attention_mask with holes"):
        buffer.show(BatchPlan([0], [POSITIONS["all"]], attention_mask=mask), prompts)
    assert torch.equal(buffer.words, before)


def test_what_nothing_reads_is_refused_when_something_does():
    buffer = PlanBuffer(2, CPU)
    buffer.show(BatchPlan([0], [POSITIONS["all"]]), None)
    buffer.show(BatchPlan([0] * 3, [POSITIONS["all"]] * 3), None)  # nobody reads it
    assert token_slot(buffer, PaddedBatch(3, 1, 0, None, None)).tolist() == [-1] * 3
    with pytest.raises(SteeringError, match="there are 3 requests"):
        buffer.use()
    buffer.show(BatchPlan([0], [POSITIONS["all"]]), None)
    buffer.use()


def test_more_requests_or_prompts_than_places_are_refused():
    buffer = PlanBuffer(2, CPU)
    buffer.use()
    with pytest.raises(SteeringError, match=r"up to 2 sequences, but there are 3 requests"):
        buffer.show(BatchPlan([0] * 3, [POSITIONS["all"]] * 3), None)
    with pytest.raises(SteeringError, match=r"there are 3 prompts: patch with a larger slots="):
        buffer.show(BatchPlan([0], [POSITIONS["all"]]), RecordedPrompts(2, torch.ones(3, 2)))


def test_a_buffer_keeps_its_addresses_and_moves_with_what_it_holds():
    buffer = PlanBuffer(2, CPU)
    places = [tensor.data_ptr() for tensor in buffer.fixed]
    buffer.show(BatchPlan([1], [POSITIONS["all"]]), None)
    assert [tensor.data_ptr() for tensor in buffer.fixed] == places
    assert buffer.on(CPU) is buffer
    moved = buffer.on(torch.device("meta"))
    assert {tensor.device.type for tensor in moved.fixed} == {"meta"}
    assert moved.sequences == buffer.sequences
