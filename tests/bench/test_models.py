"""The benchmark of whole models: each reading is the same forward from the same state."""

from __future__ import annotations

import time

import models
import pytest
import torch
from transformers import StaticCache

from emokernel.bench.cases import Case
from emokernel.bench.decode import Decoding, random_prompt
from emokernel.bench.variants import COMPILED, EAGER, VARIANTS


@pytest.fixture
def repeated(tiny, vectors):
    """``repeated(name, what)``: readings of a variant."""

    def of(name: str, what: str) -> models.Repeated:
        model, variant = tiny(), VARIANTS[name]
        prompt = random_prompt(model, 2, 5)
        static = StaticCache(config=model.config, max_cache_len=8)
        decoding = Decoding(
            model, vectors(), variant, prompt, 2,
            static=static if variant.mode == COMPILED else None, compile_backend="eager",
        )  # fmt: skip
        decoding.ask(Case(2, 5))
        return models.Repeated(decoding, what)

    return of


@pytest.mark.parametrize("name", ["unpatched", "plain_hook", "emokernel", "emokernel_compiled"])
def test_a_step_is_repeated_from_the_same_cache(repeated, name, monkeypatch):
    forwards = repeated(name, models.STEP)
    lengths = []
    step = Decoding.step

    def stepping(self, cache):
        lengths.append(int(cache.get_seq_length()))
        step(self, cache)

    monkeypatch.setattr(Decoding, "step", stepping)
    with torch.no_grad():
        readings = [forwards.read() for _ in range(3)]
    assert lengths == [5, 5, 5]
    assert all(reading.wall > 0 and reading.processor > 0 for reading in readings)


def test_a_prompt_is_repeated_into_an_empty_cache(repeated, monkeypatch):
    forwards = repeated("emokernel", models.PROMPT)
    lengths = []
    read = Decoding.read_prompt

    def reading(self, cache):
        read(self, cache)
        lengths.append(int(cache.get_seq_length()))

    monkeypatch.setattr(Decoding, "read_prompt", reading)
    with torch.no_grad():
        forwards.read(), forwards.read()
    assert lengths == [5, 5]


@torch.no_grad()
@pytest.mark.parametrize("hook", [True, False])
def test_a_case_is_measured_until_it_is_precise(tiny, vectors, hook):
    variants = models.variants_of(EAGER, hook)
    names = ["unpatched", "unpatched_again", *["plain_hook"] * hook, "emokernel"]
    assert [variant.name for variant in variants] == names
    forward = models.Forward(models.STEP, EAGER, 2, 5)
    ready = models.prepared(tiny(), vectors(), forward, variants)
    readings = models.measured(ready, variants, time.monotonic() + 60, precision=float("inf"))
    assert {len(own) for own in readings.values()} == {models.FEWEST}
    about = {"model": "smollm2", "what": models.STEP, "mode": EAGER}
    rows = list(models.rows_of(about, readings, variants))
    assert ["ratio" in row for row in rows] == [name != "unpatched" for name in names]
    assert "goal 0.98" in models.line(rows[-1])
    assert len(rows[-1]["processor_ratio"]) == 3


def test_time_that_is_up_ends_a_case():
    class Forward:
        def read(self):
            return models.Reading(1.0, 1.0)

    variants = models.variants_of(EAGER, False)
    ready = {variant.name: Forward() for variant in variants}
    readings = models.measured(ready, variants, time.monotonic() - 1, precision=0.0)
    assert {len(own) for own in readings.values()} == {models.FEWEST}


@pytest.mark.parametrize(
    ("ratio", "told"),
    [
        ([0.97, 0.96, 0.975], "goal 0.98: met"),
        ([0.97, 0.95, 0.99], "goal 0.98: met, but the goal is within the interval"),
        ([0.99, 0.985, 1.0], "goal 0.98: MISSED"),
        ([0.99, 0.97, 1.0], "goal 0.98: MISSED, but the goal is within the interval"),
    ],
)
def test_a_goal_is_judged(ratio, told):
    row = {"model": "smollm2", "what": models.STEP, "mode": EAGER, "variant": "emokernel"}
    row |= {"ms": 50.0, "rounds": 20, "ratio": ratio, "processor_ratio": ratio}
    assert models.line(row).endswith(told)
    assert "goal" not in models.line(row | {"variant": "plain_hook"})
