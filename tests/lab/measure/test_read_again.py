"""What a change reads again: then all is as if it had been asked for from the beginning."""

from __future__ import annotations

import inspect
import weakref

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM, MistralConfig, MistralForCausalLM

from emokernel import EmotionVectors, Request, patch
from emokernel.lab.measure.decoding import Decoding, left_padded

CONTEXTS = [[5, 6, 7, 8], [9, 4, 11], [12, 13], [5, 6, 7, 8]]
LENGTHS = torch.tensor([len(context) for context in CONTEXTS])
JOY, ANGER = Request("joy", 3.0), Request("anger", 3.0)


def watched(model, monkeypatch, told):
    """``told`` is called with the arguments of each forward of ``model``."""
    plain = model.forward

    def forward(*args, **kwargs):
        told(kwargs)
        return plain(*args, **kwargs)

    forward.__signature__ = inspect.signature(plain)
    monkeypatch.setattr(model, "forward", forward)


def run(model, steering, first, changes, steps=7):
    """[Scores of each step]; ``changes``: {step: (requests, again)}, made before it."""
    decoding = Decoding(model, CONTEXTS, 0, steering, first, apart=True)
    scores, tokens = [decoding.begin()], torch.arange(20, 24)
    for step in range(1, steps):
        if step in changes:
            decoding.change(*changes[step])
        scores.append(decoding.step(tokens + step))
    return scores


def whole(model, steering, requests, step):
    """The scores of that step if ``requests`` had been there from the beginning, in one forward."""
    ids, mask = left_padded(CONTEXTS, 0)
    written = [torch.arange(20, 24)[:, None] + number for number in range(1, step + 1)]
    ids = torch.cat([ids, *written], 1)
    mask = torch.cat([mask, torch.ones(len(ids), step, dtype=mask.dtype)], 1)
    places = (mask.cumsum(-1) - 1).clamp_(min=0)
    with (
        torch.no_grad(),
        steering.requests(requests, prompt_lengths=LENGTHS, attention_mask=mask),
    ):
        return model(input_ids=ids, attention_mask=mask, position_ids=places).logits[:, -1]


@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "last"])
@torch.no_grad()
def test_it_is_as_if_it_had_been_asked_for_from_the_beginning(positions, model, patched, vectors):
    steering = patched(vectors())
    first, second = [JOY, None, ANGER, None], [Request("anger", 3.0, positions=positions)] * 4
    found = run(model, steering, first, {4: (second, True)})
    kept = run(model, steering, first, {4: (second, False)})
    for step in (4, 5, 6):
        wanted = whole(model, steering, second, step)
        torch.testing.assert_close(found[step], wanted, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(kept[step], wanted, rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_rows_that_stay_as_they_were_keep_their_bits(model, patched, vectors):
    steering = patched(vectors())
    first = [JOY, None, ANGER, None]
    found = run(model, steering, first, {3: ([JOY, JOY, ANGER, None], True)})
    unchanged = run(model, steering, first, {})
    for row, same in enumerate([True, False, True, True]):
        for step in (3, 4, 5, 6):
            assert torch.equal(found[step][row], unchanged[step][row]) is same


@torch.no_grad()
def test_a_row_that_was_elsewhere_meanwhile_is_read_again(model, patched, vectors):
    steering = patched(vectors())
    there, back = [ANGER] * 4, [JOY] * 4
    found = run(model, steering, back, {2: (there, False), 4: (back, True)})
    for step in (4, 6):
        wanted = whole(model, steering, back, step)
        torch.testing.assert_close(found[step], wanted, rtol=1e-3, atol=1e-4)
    left = run(model, steering, back, {2: (there, False), 4: (back, False)})
    assert not torch.allclose(left[6], wanted, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_what_is_asked_again_is_not_read_again(model, patched, vectors, monkeypatch):
    steering = patched(vectors())
    shapes = []
    watched(model, monkeypatch, lambda given: shapes.append(tuple(given["input_ids"].shape)))
    run(model, steering, [JOY] * 4, {2: ([JOY] * 4, True), 4: ([JOY, ANGER, JOY, JOY], True)})
    assert shapes == [(4, 4), (4, 1), (4, 1), (4, 1), (4, 1), (1, 8), (4, 1), (4, 1)]


@torch.no_grad()
def test_a_cache_of_another_kind_is_read_again_for_all():
    config = MambaConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=4, state_size=4, expand=2, conv_kernel=4,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MambaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(1)
    made = {name: torch.randn(4, 32, generator=generator) for name in ("joy", "anger")}
    steering = patch(model, EmotionVectors.from_tensors(made, site="block"))
    contexts = [[5, 6, 7, 8]] * 2
    decoding = Decoding(model, contexts, 0, steering, [JOY, None], apart=True)
    decoding.begin()
    tokens = torch.tensor([20, 20])
    decoding.step(tokens)
    decoding.change([ANGER, None], True)
    found = [decoding.step(tokens), decoding.step(tokens)]
    other = Decoding(model, contexts, 0, steering, [ANGER, None], apart=True)
    other.begin()
    wanted = [other.step(tokens), other.step(tokens), other.step(tokens)][1:]
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@pytest.fixture
def sliding(vectors):
    """A model of whose text each token sees the last few alone, and its steering."""
    config = MistralConfig(
        vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=5,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval()
    model.lm_head.weight.data *= 30
    return model, patch(model, vectors())


@torch.no_grad()
def test_a_row_that_stays_keeps_its_bits_in_a_cache_of_a_window_too(sliding):
    model, steering = sliding
    first, second = [JOY, None, ANGER, None], [JOY, ANGER, JOY, None]
    found = run(model, steering, first, {4: (second, True)})
    unchanged = run(model, steering, first, {})
    for step in (4, 5, 6):
        wanted = whole(model, steering, second, step)
        torch.testing.assert_close(found[step], wanted, rtol=1e-3, atol=1e-4)
        for row, same in enumerate([True, False, False, True]):
            assert torch.equal(found[step][row], unchanged[step][row]) is same


@torch.no_grad()
def test_a_cache_that_is_made_anew_is_given_up_before(sliding, monkeypatch):
    model, steering = sliding
    caches, alive = [], []

    def told(given):
        if (cache := given.get("past_key_values")) is not None:
            caches.append(weakref.ref(cache))
        elif caches:
            alive.append(caches[-1]())

    watched(model, monkeypatch, told)
    run(model, steering, [JOY, None, ANGER, None], {3: ([ANGER, ANGER, JOY, JOY], True)})
    assert alive == [None]


@torch.no_grad()
def test_of_rows_that_were_taken_out_nothing_is_read(model, patched, vectors, monkeypatch):
    steering = patched(vectors())
    shapes = []
    watched(model, monkeypatch, lambda given: shapes.append(tuple(given["input_ids"].shape)))
    decoding = Decoding(model, CONTEXTS, 0, steering, [JOY, None, ANGER, None], apart=True)
    decoding.begin()
    tokens, rows = torch.arange(21, 25), torch.tensor([1, 2])
    decoding.step(tokens)
    decoding.keep(rows)
    decoding.change([ANGER, ANGER], True)
    found = [decoding.step(tokens[rows] + 1), decoding.step(tokens[rows] + 2)]
    assert shapes == [(4, 4), (4, 1), (2, 1), (1, 6), (2, 1)]
    for step, scores in enumerate(found, 2):
        wanted = whole(model, steering, [ANGER] * 4, step)[rows]
        torch.testing.assert_close(scores, wanted, rtol=1e-3, atol=1e-4)
