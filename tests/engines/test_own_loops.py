"""Decoding loops that call the model themselves, with `prompt_lengths` and `attention_mask`."""

from __future__ import annotations

import pytest
import torch
from engines.oracle import by_hand, teacher_forced
from transformers import DynamicCache, StaticCache

from emokernel.errors import SteeringError

POSITIONS = ["all", "prompt", "generated", "last"]
NEW = torch.tensor([[11, 12, 13, 14, 15]]).expand(4, -1)


def places_of(mask):
    return (mask.cumsum(-1) - 1).clamp(min=0)


def caches(kind, model):
    if kind == "static":
        return StaticCache(config=model.config, max_cache_len=24)
    return DynamicCache(config=model.config)


def wanted(positions, requests, plain, emotions, ids, mask):
    """Logits of a full forward over prompts and `NEW`, places counted from what is no padding."""
    text = torch.cat([ids, NEW], 1)
    real = torch.cat([mask, torch.ones_like(NEW)], 1)
    prompt = torch.arange(12).expand(4, -1) < 7
    where = by_hand(positions, real, prompt)
    full = teacher_forced(plain, emotions, text, real, 12, (requests, where))
    return full, real


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shown", ["in each call", "by the requests"])
@pytest.mark.parametrize("steps", [(1, 1, 1, 1, 1), (2, 3)], ids=["tokens", "spans"])
def test_a_loop_with_a_cache(
    steps, shown, side, kind, positions, pair, padded, requests_at, emotions
):
    plain, model, steering = pair()
    ids, mask = padded(side)
    requests = requests_at(positions)
    full, real = wanted(positions, requests, plain, emotions, ids, mask)
    lengths, cache, got, done = mask.sum(-1), caches(kind, model), [], 7
    recorded = None if shown == "in each call" else mask
    with (
        steering.requests(requests, prompt_lengths=lengths, attention_mask=recorded),
        torch.no_grad(),
    ):
        given = {"attention_mask": mask}
        got.append(model(ids, past_key_values=cache, position_ids=places_of(mask), **given).logits)
        for count in steps:
            end = done + count
            seen = real[:, :end]
            if shown != "in each call":
                # A mask that does not show padding by itself: whether each new token sees a column.
                columns = torch.arange(24 if kind == "static" else end)
                sees = columns <= torch.arange(done, end)[:, None]
                held = torch.nn.functional.pad(seen.bool(), (0, len(columns) - end))
                seen = (sees & held[:, None])[:, None]
            got.append(
                model(
                    NEW[:, done - 7 : end - 7], past_key_values=cache, attention_mask=seen,
                    position_ids=places_of(real)[:, done:end],
                ).logits
            )  # fmt: skip
            done = end
    got, held = torch.cat(got, 1), real.bool()
    torch.testing.assert_close(got[held], full[held], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_loop_without_any_mask(kind, positions, pair, padded, requests_at, emotions):
    plain, model, steering = pair()
    ids, mask = padded("no")
    requests = requests_at(positions)
    full, _ = wanted(positions, requests, plain, emotions, ids, mask)
    cache = caches(kind, model)
    with steering.requests(requests, prompt_lengths=[7] * 4), torch.no_grad():
        got = [model(ids, past_key_values=cache).logits]
        got += [model(NEW[:, [n]], past_key_values=cache).logits for n in range(5)]
    torch.testing.assert_close(torch.cat(got, 1), full, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_plain_call_is_all_prompt_and_keeps_the_logits_it_is_asked_for(
    positions, pair, padded, requests_at, emotions
):
    plain, model, steering = pair()
    ids, mask = padded("right")
    requests = requests_at(positions)
    where = by_hand(positions, mask, torch.ones_like(mask).bool())
    full = teacher_forced(plain, emotions, ids, mask, 7, (requests, where))
    given = {"attention_mask": mask, "position_ids": places_of(mask) * mask}
    with steering.requests(requests), torch.no_grad():
        whole = model(ids, **given).logits
        for keep in (1, 3, torch.tensor([0, 6])):
            some = model(ids, **given, logits_to_keep=keep).logits
            at = keep if isinstance(keep, torch.Tensor) else slice(-keep, None)
            torch.testing.assert_close(some, whole[:, at], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole, full, rtol=1e-4, atol=1e-4)


def test_a_mask_without_the_columns_of_the_cache_is_refused(pair, prompts):
    _, model, steering = pair()
    steering.set("joy")
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(prompts, past_key_values=cache)
        with pytest.raises(SteeringError, match=r"has 1 columns.*7 tokens in the cache.*are 8"):
            model(prompts[:, :1], past_key_values=cache, attention_mask=torch.ones(4, 1))


def test_a_mask_of_other_sequences_is_refused(pair, prompts):
    _, model, steering = pair()
    with (
        steering.requests(["joy"] * 2, attention_mask=torch.ones(2, 7)),
        pytest.raises(SteeringError, match="3 sequences does not fit a batch of 4"),
    ):
        model(prompts, attention_mask=torch.ones(3, 7))


def test_a_cache_that_does_not_count_needs_a_mask_of_all_columns(pair, padded, requests_at):
    _, model, steering = pair("recurrent")
    ids, mask = padded("no")
    requests = requests_at("generated")
    real = torch.cat([mask, mask[:, :1]], 1)
    with steering.requests(requests, prompt_lengths=[7] * 4), torch.no_grad():
        cache = model(ids, use_cache=True).cache_params
        given = {"cache_params": cache, "use_cache": True}
        with pytest.raises(SteeringError, match="does not count its tokens"):
            model(ids[:, :1], **given)
        model(ids[:, :1], attention_mask=real, **given)
