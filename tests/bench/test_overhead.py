"""What steering costs the host, as ratios: of models so small that little else takes time.

The bounds are in `speed`, and how two calls are compared.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from speed import EMBEDDED_STEP, MIXES, REQUESTS, SET, STEP, fastest
from transformers import DynamicCache, PreTrainedModel

from emokernel import patch
from emokernel.bench.stand_ins import sharing_weights
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.patch.adds import Add
from emokernel.state import DeviceState

SEQUENCES = 32

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def ratio() -> Callable[..., float]:
    """``ratio(baseline, call)``: the fastest call over the fastest of the baseline."""

    def compare(
        baseline: Callable[[], object],
        call: Callable[[], object],
        clock: Callable[[], float] = time.perf_counter,
    ) -> float:
        found = fastest({"baseline": baseline, "call": call}, clock=clock)
        print(found)  # shown by pytest -rP
        return found["call"] / found["baseline"]

    return compare


def decode_step(model: PreTrainedModel, batch: int = 1) -> Callable[[], None]:
    """One token for each of ``batch`` sequences behind a cached prompt, always the same."""
    cache = DynamicCache(config=model.config)
    prompt = torch.arange(3, 3 + 8 * batch).remainder(90).view(batch, 8)
    with torch.no_grad():
        model(prompt, past_key_values=cache, use_cache=True)

    @torch.no_grad()
    def step() -> None:
        model(prompt[:, :1], past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return step


@pytest.fixture
def slower(monkeypatch) -> Callable[[Callable[[DeviceState], object]], None]:
    """``slower(burden)``: every add of a patched model does that as well."""

    def burden_adds(burden: Callable[[DeviceState], object]) -> None:
        run = Add.__call__

        def call(self, a, b):
            burden(self.placed.state)
            return run(self, a, b)

        monkeypatch.setattr(Add, "__call__", call)

    return burden_adds


def loop_over(state: DeviceState, slots: Iterable[int]) -> None:
    """What a host must not do for each layer."""
    for slot in slots:
        state.running.token_slot.eq(slot).any()


def patched_step(tiny, vectors, ratio) -> float:
    model, patched = tiny(), tiny()
    patch(patched, vectors()).set("joy")
    return ratio(decode_step(model), decode_step(patched))


def test_a_patched_step_costs_little_more(tiny, vectors, ratio):
    assert patched_step(tiny, vectors, ratio) < STEP


@pytest.mark.parametrize(
    "burden",
    [lambda _: time.sleep(2e-4), lambda state: loop_over(state, range(state.num_slots))],
    ids=["sleep", "loop"],
)
def test_the_bound_of_a_step_notices(burden, tiny, vectors, ratio, slower):
    slower(burden)
    assert patched_step(tiny, vectors, ratio) > STEP


def embedded_step(ratio) -> float:
    """In processor time, steered in all layers that have a vector."""
    model, _ = load_model()
    patched = sharing_weights(model)
    patch(patched, load_vectors()).set("joy")
    return ratio(decode_step(model), decode_step(patched), clock=time.thread_time)


def test_a_step_of_the_embedded_model_costs_little_more(ratio):
    assert embedded_step(ratio) < EMBEDDED_STEP


def test_the_bound_of_the_embedded_model_notices(ratio, slower):
    """A look at every 16th slot in every add."""
    slower(lambda state: loop_over(state, range(0, state.num_slots, 16)))
    assert embedded_step(ratio) > EMBEDDED_STEP


def set_over_step(tiny, vectors, ratio) -> float:
    model = tiny()
    steering = patch(model, vectors())
    weights = itertools.cycle((0.2, 0.3))  # the same again would write nothing
    return ratio(decode_step(model), lambda: steering.set({"joy": 0.5, "anger": next(weights)}))


def test_set_costs_a_fraction_of_a_step(tiny, vectors, ratio):
    assert set_over_step(tiny, vectors, ratio) < SET


def test_the_bound_of_set_notices(tiny, vectors, ratio, monkeypatch):
    """A write for each of a few vectors and layers instead of one."""
    write = DeviceState.write

    def repeating(self, slot, mix):
        for _ in range(16):
            write(self, slot, mix)

    monkeypatch.setattr(DeviceState, "write", repeating)
    assert set_over_step(tiny, vectors, ratio) > SET


def requests(count: int) -> list[dict[str, float]]:
    """For each sequence a mix; ``count`` of them differ."""
    return [{"joy": 1.0, "anger": 0.01 * (n % count)} for n in range(SEQUENCES)]


def mixes_over_one(tiny, vectors, ratio) -> float:
    steps = []
    for count in (1, SEQUENCES):
        model = tiny()
        steering = patch(model, vectors())
        opened = steering.requests(requests(count))
        opened.__enter__()
        steps.append(decode_step(model, SEQUENCES))
    return ratio(*steps)


def test_a_step_costs_the_same_for_many_mixes(tiny, vectors, ratio):
    assert mixes_over_one(tiny, vectors, ratio) < MIXES


def test_the_bound_of_many_mixes_notices(tiny, vectors, ratio, slower):
    slower(lambda state: loop_over(state, np.flatnonzero(state._heads.any(1))))
    assert mixes_over_one(tiny, vectors, ratio) > MIXES


def opening_over_step(tiny, vectors, ratio) -> float:
    model = tiny()
    steering = patch(model, vectors())
    asked = requests(4)

    def opening() -> None:
        with steering.requests(asked):
            pass

    return ratio(decode_step(model, SEQUENCES), opening)


def test_opening_requests_costs_about_a_step(tiny, vectors, ratio):
    assert opening_over_step(tiny, vectors, ratio) < REQUESTS


def test_the_bound_of_opening_requests_notices(tiny, vectors, ratio, monkeypatch):
    """A write for every sequence instead of every mix."""
    write = DeviceState.write

    def repeating(self, slot, mix):
        for _ in range(SEQUENCES):
            write(self, slot, mix)

    monkeypatch.setattr(DeviceState, "write", repeating)
    assert opening_over_step(tiny, vectors, ratio) > REQUESTS
