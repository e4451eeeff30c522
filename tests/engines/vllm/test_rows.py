"""The rows of each step, against what every token of it asks for, read where kernels read it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from emokernel.engines.vllm.asked import KINDS, packed
from emokernel.engines.vllm.rows import StepRows
from emokernel.errors import NoFreeSlotError
from emokernel.reference import Law
from emokernel.state import Asked, DeviceState, Mix

SLOTS, ROWS, LAYERS, EMOTIONS = 3, 40, 2, 4
VECTORS = torch.randn(LAYERS, EMOTIONS, 8, generator=torch.Generator().manual_seed(0))
PROFILE = torch.tensor([0.5, 2.0])
MIXES = [
    Mix(((number, 0.25 * (number + 1)), ((number + 1) % EMOTIONS, sign)), law)
    for number in range(EMOTIONS)
    for sign, law in ((-1.0, Law.PRESERVE), (0.5, Law.RELATIVE))
]
# Of one vector, so that a slot may hold fewer than before.
MIXES.append(Mix(((2, 1.5),), Law.ADD))
ALL = KINDS[7]


class Copies(TorchDispatchMode):
    """Counts the copies into rows (one dimension) and into records (two)."""

    def __init__(self):
        super().__init__()
        self.counted = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.copy_.default:
            self.counted[("rows", "records")[args[0].dim() - 1]] += 1
        return func(*args, **(kwargs or {}))


class Batches:
    """Requests as an engine runs them: each knows how many of its tokens were computed."""

    def __init__(self, requests=(), slots=SLOTS):
        self.state = DeviceState(VECTORS, slots, torch.device("cpu"), torch.float32, PROFILE)
        self.rows = StepRows(self.state, ROWS)
        self.requests, self.computed = list(requests), Counter()
        self.names = None
        self.fixed = [self.rows.token_slot, *self.state.fixed]
        self.addresses = [each.data_ptr() for each in self.fixed]

    def step(self, tokens):
        """``{number of the request: its tokens of this step}``; returns what was copied."""
        names = list(tokens)
        with Copies() as copies:
            if names != self.names:
                self.names = names
                self.rows.batch([self._packed(*self.requests[each][:2]) for each in names])
            self.rows.step(*self._numbers(names), np.array([*tokens.values()], np.int64))
        assert [each.data_ptr() for each in self.fixed] == self.addresses
        assert self.read() == self.wanted(tokens)
        return dict(copies.counted)

    def _numbers(self, names):
        # As vLLM's batch holds them.
        computed = np.array([self.computed[each] for each in names], np.int32)
        return computed, np.array([self.requests[each][2] for each in names], np.int32)

    @staticmethod
    def _packed(mix, kinds):
        return packed(Asked(mix, kinds), "digest")

    def read(self):
        """What the kernels read for each row: (law, the weight of every vector in every layer)."""
        told = []
        for slot in self.rows.token_slot.tolist():
            if slot < 0:
                told.append(None)
                continue
            weights = np.zeros((LAYERS, EMOTIONS), np.float32)
            for layer, (_, ids, of_slots, _) in enumerate(self.state.tables):
                for number, weight in zip(ids[slot], of_slots[slot], strict=True):
                    weights[layer, number] += weight
            told.append((int(self.state.tables[0][3][slot]), weights.tolist()))
        return told

    def wanted(self, tokens):
        """The same, said token by token."""
        told = []
        for name, count in tokens.items():
            mix, kinds, prompt = self.requests[name]
            for place in range(self.computed[name], self.computed[name] + count):
                kind = 0 if place < prompt - 1 else 1 if place == prompt - 1 else 2
                told.append(weights_of(mix) if mix and kinds[kind] else None)
        return told + [None] * (ROWS - len(told))


def weights_of(mix):
    weights = np.zeros((LAYERS, EMOTIONS), np.float32)
    for number, weight in mix.components:
        scale = PROFILE / (VECTORS[:, number].norm(dim=-1) if mix.law & Law.RELATIVE else 1)
        weights[:, number] += np.float32(weight) * scale.numpy()
    return int(mix.law), weights.tolist()


_REQUESTS = st.lists(
    st.tuples(
        st.sampled_from([None, *MIXES]), st.sampled_from(KINDS), st.integers(1, 9)
    ),
    min_size=4, max_size=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_REQUESTS, st.data())
def test_every_row_has_what_its_token_asks_for(requests, data):
    """Requests come, go and swap places, with pieces of prompts and several guessed tokens."""
    batches = Batches(requests)
    numbers = range(len(requests))
    for _ in range(data.draw(st.integers(2, 10))):
        if data.draw(st.integers(0, 9)) == 0:  # a run of no request
            batches.rows.clear()
            assert batches.read() == [None] * ROWS
        running = data.draw(st.lists(st.sampled_from(numbers), unique=True, max_size=SLOTS + 1))
        # A batch has no more requests than slots; those without steering are counted too.
        running = running[:SLOTS] if len(running) > SLOTS else running
        tokens = {each: data.draw(st.integers(1, 6)) for each in running}
        batches.step(tokens)
        for each, count in tokens.items():
            if data.draw(st.integers(0, 19)) == 0:  # evicted: computed from its start again
                batches.computed[each] = 0
            else:  # of guessed tokens, some are taken back
                batches.computed[each] += data.draw(st.integers(1, count))


def decoding(count, kinds=ALL):
    """Batches of requests that are steered alike from token to token."""
    return Batches([(MIXES[number], kinds, 1) for number in range(count)])


def test_nothing_is_copied_when_nothing_has_changed():
    batches = decoding(SLOTS)
    tokens = dict.fromkeys(range(SLOTS), 1)
    assert batches.step(tokens) == {"rows": 1, "records": 1}
    for _ in range(3):
        batches.computed.update(tokens)
        assert batches.step(tokens) == {}


def test_nothing_is_copied_for_who_asks_for_nothing():
    batches = Batches([(None, ALL, 4), (MIXES[0], KINDS[0], 4)])
    for _ in range(3):
        assert batches.step({0: 3, 1: 2}) == {}


def test_everything_changed_is_one_copy_of_the_records_and_one_of_the_rows():
    batches = Batches([(mix, ALL, 1) for mix in MIXES])
    batches.step({0: 1, 1: 1, 2: 1})
    assert batches.step({3: 2, 4: 1, 5: 1}) == {"rows": 1, "records": 1}


def test_who_comes_back_is_not_written_again_while_nobody_took_the_slot():
    batches = decoding(SLOTS)
    batches.step({0: 1, 1: 1, 2: 1})
    batches.step({0: 1})
    assert batches.step({2: 1, 0: 1}) == {"rows": 1}  # another place, the same slots


def test_mixes_that_are_alike_share_a_slot():
    batches = Batches([(MIXES[0], ALL, 1)] * 6, slots=1)
    batches.step(dict.fromkeys(range(6), 1))
    assert set(batches.rows.token_slot.tolist()) == {0, -1}


def test_only_a_kind_of_token_may_change_from_step_to_step():
    batches = Batches([(MIXES[0], KINDS[4], 4)])
    assert batches.step({0: 4}) == {"records": 1}  # its prompt: no row is steered
    batches.computed[0] = 4
    assert batches.step({0: 1}) == {"rows": 1}


def test_after_a_run_of_no_request_the_rows_come_back():
    batches = decoding(2)
    tokens = {0: 2, 1: 1}
    batches.step(tokens)
    with Copies() as copies:
        batches.rows.clear()
        batches.rows.clear()
    assert copies.counted == {"rows": 1}
    assert batches.read() == [None] * ROWS
    assert batches.step(tokens) == {"rows": 1}


def test_more_mixes_over_time_than_slots_leak_nothing():
    batches = Batches([(mix, ALL, 1) for mix in MIXES])
    for first in [*range(len(MIXES)), *range(len(MIXES))]:
        chosen = [(first + more) % len(MIXES) for more in range(SLOTS)]
        batches.step(dict.fromkeys(chosen, 2))


def test_a_batch_of_more_mixes_than_slots_is_refused_and_steers_nobody_else():
    batches = Batches([(mix, ALL, 1) for mix in MIXES])
    batches.step({0: 1, 1: 1})
    with pytest.raises(NoFreeSlotError):
        batches.step(dict.fromkeys(range(SLOTS + 1), 1))
    batches.names = None
    batches.step({1: 1, 0: 1})
