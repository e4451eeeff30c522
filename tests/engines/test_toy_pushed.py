"""An engine that pushes, in one file: its runner writes the slots of a step before the forward.

No decoder is patched and no `Steering` is made: a plain module calls the operations on tables and
rows of fixed address, as a model does whose layers an inference engine has replaced.
"""

from __future__ import annotations

import pytest
import torch
from conftest import LAYERS, WIDTH
from torch import nn

from emokernel import reference
from emokernel.affect.mixes import Mixer
from emokernel.errors import NoFreeSlotError
from emokernel.ops import select
from emokernel.presets import settle
from emokernel.requests import Request, Resolver
from emokernel.state import DeviceState, MixSlots, RowBuffer, Tickets, rows_of

CPU, MOST_ROWS = torch.device("cpu"), 32


class Model(nn.Module):
    """Some linear layers; the rows of each are steered at its residual add."""

    def __init__(self, tables, token_slot):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
        self.add_steer = select(CPU).add_steer
        self.tables, self.token_slot = tables, token_slot

    def forward(self, rows):
        for layer, (basis, ids, weights, law) in zip(self.layers, self.tables, strict=True):
            rows = self.add_steer(layer(rows), rows, basis, self.token_slot, ids, weights, law)
        return rows


class Runner:
    """Runs steps in which prompts, pieces of prompts and single tokens stand side by side."""

    def __init__(self, vectors, slots):
        self.resolve = Resolver(Mixer(vectors), settle(vectors))
        self.state = DeviceState(vectors.tensor, slots, CPU, torch.float32)
        self.slots = MixSlots(range(slots), self.state.write, self.state.retire)
        self.tickets, self.running, self.computed = Tickets(self.slots), {}, {}
        self.rows = RowBuffer(MOST_ROWS, CPU)
        self.model = Model(self.state.tables, self.rows.tensor).eval()

    def add(self, name, entry, prompt_length):
        (self.running[name],) = self.tickets.take([self.resolve(entry)], [prompt_length])
        self.computed[name] = 0

    def end(self, name):
        self.tickets.give_up([self.running.pop(name)])

    @torch.no_grad()
    def step(self, tokens):
        """``{name: rows [tokens, d]}``: what the model makes of each."""
        names, counts = list(tokens), [len(rows) for rows in tokens.values()]
        computed = [self.computed[name] for name in names]
        with self.state.reading():  # nobody's slot is given out again before this is queued
            self.rows.write(rows_of([self.running[name] for name in names], computed, counts))
            out = self.model(torch.cat(list(tokens.values())))
        for name, count in zip(names, counts, strict=True):
            self.computed[name] += count
        return dict(zip(names, out.split(counts), strict=True))


def alone(runner, rows, mix_of_row):
    """What the specification gives for rows whose mixes are named one by one."""
    for layer, module in enumerate(runner.model.layers):
        basis, *_ = runner.state.tables[layer]
        made = []
        for row, entry in zip(rows, mix_of_row, strict=True):
            mix = None if entry is None else runner.resolve(entry).mix
            ids, weights = torch.zeros(1, 8, dtype=torch.int32), torch.zeros(1, 8)
            for k, (number, weight) in enumerate(mix.components if mix else ()):
                ids[0, k], weights[0, k] = number, weight
            law = torch.tensor([int(mix.law) if mix else 0], dtype=torch.int32)
            slot = torch.tensor([0 if mix else -1], dtype=torch.int32)
            branch = module(row[None])
            made.append(reference.add_steer(branch, row[None], basis, slot, ids, weights, law))
        rows = torch.cat(made)
    return rows


@pytest.fixture
def runner(vectors):
    return Runner(vectors(), slots=2)


def some(rows, seed):
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_requests_come_and_go_in_a_batch_that_changes_with_every_step(runner):
    address, tables = runner.rows.tensor.data_ptr(), runner.state.records.data_ptr()
    runner.add("a", Request("joy", positions="last"), prompt_length=3)
    runner.add("b", {"anger": 0.5, "sadness": 0.5}, prompt_length=4)
    runner.add("c", None, prompt_length=2)
    first = {"a": some(3, 0), "b": some(2, 1), "c": some(2, 2)}  # of b, a piece of its prompt
    got = runner.step(first)
    mix = {"anger": 0.5, "sadness": 0.5}
    wanted = {"a": [None, None, "joy"], "b": [mix] * 2, "c": [None] * 2}
    for name, rows in first.items():
        torch.testing.assert_close(got[name], alone(runner, rows, wanted[name]))
    with pytest.raises(NoFreeSlotError):
        runner.add("d", "surprise", 1)
    runner.end("b")
    runner.add("d", Request("surprise", positions="prompt"), prompt_length=1)
    later = {"d": some(2, 3), "a": some(1, 4)}
    got = runner.step(later)
    torch.testing.assert_close(got["d"], alone(runner, later["d"], ["surprise", None]))
    torch.testing.assert_close(got["a"], alone(runner, later["a"], ["joy"]))
    for name in list(runner.running):
        runner.end(name)
    assert runner.slots.held == 0
    assert (runner.rows.tensor.data_ptr(), runner.state.records.data_ptr()) == (address, tables)


def test_an_evicted_request_is_computed_again_as_it_was(runner):
    """Its generated tokens come back as if they were prompt, and stay generated here."""
    runner.add("a", Request("joy", positions="generated"), prompt_length=2)
    rows = some(4, 0)
    steps = [runner.step({"a": part})["a"] for part in (rows[:2], rows[2:3], rows[3:])]
    runner.computed["a"] = 0
    torch.testing.assert_close(runner.step({"a": rows})["a"], torch.cat(steps))
