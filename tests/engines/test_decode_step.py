"""What finding the rows of a decoding step costs: nothing is read back, nothing copied again."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import StaticCache

from emokernel import patch
from emokernel.choices import POSITIONS
from emokernel.engines.generate import PlainForwards
from emokernel.engines.plan import BatchPlan, PaddedBatch, RecordedPrompts
from emokernel.state.streams import Readers

READS_BACK = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select")


class Log(TorchDispatchMode):
    """The names of the operations that ran, and where their results are."""

    def __init__(self):
        super().__init__()
        self.ops = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        self.ops.append(function.overloadpacket.__name__)
        return output


@pytest.fixture
def logged(monkeypatch):
    """One list of operations for each forward call: those that found its rows."""
    calls, rows = [], PlainForwards.token_slot

    def wrapped(self, call, state):
        with Log() as log:
            result = rows(self, call, state)
        calls.append(log.ops)
        return result

    monkeypatch.setattr(PlainForwards, "token_slot", wrapped)
    return calls


@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "last"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("side", ["no", "left"])
def test_a_decoding_step_of_generate_runs_no_operation(
    side, cache, positions, logged, model_of, vectors, padded, requests_at
):
    model = model_of()
    steering = patch(model, vectors("block"))
    logged.clear()  # what `patch` itself ran
    ids, mask = padded(side)
    with steering.requests(requests_at(positions)):
        model.generate(
            ids, attention_mask=mask, max_new_tokens=5, do_sample=False, cache_implementation=cache
        )
    prefill, first, *later = logged
    assert not set(prefill + first) & set(READS_BACK)
    assert later == [[]] * 3


@pytest.mark.parametrize("masked", [False, True])
def test_a_step_of_an_own_loop_reads_nothing_back(
    masked, logged, model_of, vectors, padded, requests_at
):
    model = model_of()
    steering = patch(model, vectors("block"))
    logged.clear()  # what `patch` itself ran
    ids, mask = padded()
    cache, real = StaticCache(config=model.config, max_cache_len=16), mask
    requests = requests_at("last")
    with steering.requests(requests, prompt_lengths=mask.sum(-1)), torch.no_grad():
        for new in (ids, ids[:, :1], ids[:, 1:2]):
            given = {"attention_mask": real} if masked else {}
            model(new, past_key_values=cache, **given)
            real = torch.cat([real, torch.ones(4, 1, dtype=torch.long)], 1)
    assert len(logged) == 3
    assert not {op for ops in logged for op in ops} & set(READS_BACK)


class OnAnotherDevice:
    """A state whose device is not where requests are made."""

    device, readers = torch.device("meta"), Readers()

    def constant_rows(self, rows, slot):
        return torch.empty(rows, dtype=torch.int32, device="meta")


@pytest.mark.parametrize("counted", [False, True])
def test_tables_are_copied_to_the_device_once(counted):
    lengths = [3, 4] if counted else None
    plan = BatchPlan([0, 1], [POSITIONS["last"], POSITIONS["generated"]], lengths)
    mask = torch.ones(2, 7, device="meta")
    prompts = None if counted else RecordedPrompts(7, mask)
    copies = []
    for past in (0, 7, 8, 9):
        shown = torch.ones(2, past + 7, device="meta")
        call = PaddedBatch(2, 7 if past == 0 else 1, past, shown, prompts)
        with Log() as log:
            plan.token_slot(call, OnAnotherDevice())
        copies.append(sum("_to_copy" in op for op in log.ops))
    assert copies[0] > 0
    # A mask of numbers is still made one of bools, on its device.
    assert copies[2] == copies[3] <= (1 if counted else 0)
