"""Generation that goes on from a filled cache: prefixes that are reused, chats that go on."""

from __future__ import annotations

import copy

import pytest
import torch
from engines.oracle import assert_steps, by_hand, teacher_forced
from transformers import DynamicCache, StaticCache

POSITIONS = ["all", "prompt", "generated", "last"]
OPTIONS = {
    "do_sample": False, "max_new_tokens": 4, "output_logits": True, "return_dict_in_generate": True,
}  # fmt: skip


def new_cache(kind, model):
    if kind == "static":
        return StaticCache(config=model.config, max_cache_len=40)
    return DynamicCache(config=model.config)


def before(columns, end):
    return torch.arange(columns).expand(4, -1) < end


def runs_prefixes_again(model, ids):
    """Whether `generate` itself, unpatched, gets a prefix that is in the cache wrong in chunks."""
    cache, chunks = DynamicCache(config=model.config), []
    with torch.no_grad():
        model(ids[:, :3], past_key_values=cache)
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: chunks.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    model.generate(ids, past_key_values=cache, prefill_chunk_size=2, max_new_tokens=1)
    handle.remove()
    return sum(chunks) != ids.shape[1] - 3


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("family", ["llama", "sliding"])
@pytest.mark.parametrize("given", ["the whole text", "what follows", "the whole text in chunks"])
def test_a_shared_prefix_stays_as_it_was_computed(
    given, family, positions, pair, padded, requests_at, emotions
):
    plain, model, steering = pair(family)
    ids, mask = padded()
    requests = requests_at(positions)
    prefix = DynamicCache(config=model.config)
    start = mask[:, :3]
    with torch.no_grad():
        model(
            ids[:, :3], attention_mask=start, past_key_values=prefix,
            position_ids=(start.cumsum(-1) - 1).clamp(min=0),
        )  # fmt: skip
    options = OPTIONS | ({"prefill_chunk_size": 2} if "chunks" in given else {})
    if "chunks" in given and runs_prefixes_again(plain, ids[:1]):
        pytest.skip("this transformers runs a cached prefix again when it prefills in chunks")
    with steering.requests(requests):
        for _ in range(2):
            output = model.generate(
                ids[:, 3:] if given == "what follows" else ids,
                attention_mask=mask, past_key_values=copy.deepcopy(prefix), **options,
            )  # fmt: skip
    new = output.sequences[:, -4:]
    text = torch.cat([ids, new], 1)
    real = torch.cat([mask, torch.ones_like(new)], 1).bool()
    where = by_hand(positions, real, before(11, 7)) & ~before(11, 3)
    assert_steps(
        output.logits, teacher_forced(plain, emotions, text, real, 7, (requests, where)), 7
    )


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_prefix_computed_in_the_block_is_prompt(positions, pair, padded, requests_at, emotions):
    plain, model, steering = pair()
    ids, mask = padded("no")
    requests = requests_at(positions)
    prefix = DynamicCache(config=model.config)
    with steering.requests(requests), torch.no_grad():
        model(ids[:, :3], past_key_values=prefix)
        output = model.generate(ids, attention_mask=mask, past_key_values=prefix, **OPTIONS)
    real = torch.ones_like(output.sequences).bool()
    # A plain call takes what it is given for a whole prompt: it ends in a last token of its own.
    where = by_hand(positions, real, before(11, 7))
    if positions == "last":
        where[:, 2] = True
    full = teacher_forced(plain, emotions, output.sequences, real, 7, (requests, where))
    assert_steps(output.logits, full, 7)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("given", ["the whole chat", "what follows"])
def test_a_chat_goes_on_with_its_cache(
    given, kind, positions, pair, padded, requests_at, emotions, prompts
):
    plain, model, steering = pair()
    ids, mask = padded()
    first, second = requests_at(positions), requests_at(positions)[::-1]
    cache = new_cache(kind, model)
    with steering.requests(first):
        answer = model.generate(ids, attention_mask=mask, past_key_values=cache, **OPTIONS)
    chat = torch.cat([answer.sequences, prompts[:, :5]], 1)  # 7 + 4 + 5
    real = torch.cat([mask, torch.ones(4, 9, dtype=torch.long)], 1)
    # The last token of the answer has not been through the model yet.
    follows = chat if given == "the whole chat" else chat[:, 10:]
    with steering.requests(second):
        output = model.generate(follows, attention_mask=real, past_key_values=cache, **OPTIONS)
    new = output.sequences[:, -4:]
    text = torch.cat([chat, new], 1)
    real = torch.cat([real, torch.ones_like(new)], 1).bool()
    then = by_hand(positions, real, before(20, 7)) & before(20, 10)
    # All that the second call was given is prompt, the first answer too.
    now = by_hand(positions, real, before(20, 16)) & ~before(20, 10)
    full = teacher_forced(plain, emotions, text, real, 16, (first, then), (second, now))
    assert_steps(output.logits, full, 16)


@pytest.mark.parametrize("positions", POSITIONS)
def test_given_prompt_lengths_go_before_what_generate_was_given(
    positions, pair, padded, requests_at, emotions
):
    # A chat without a cache, in which only the first 3 tokens of each text were not generated.
    plain, model, steering = pair()
    ids, mask = padded()
    mask[3], ids[3] = mask[1], ids[1]
    requests = requests_at(positions)
    ends = [3, 5, 6, 5]
    with steering.requests(requests, prompt_lengths=[3, 3, 3, 3]):
        output = model.generate(ids, attention_mask=mask, **OPTIONS)
    real = torch.cat([mask, torch.ones(4, 4, dtype=torch.long)], 1).bool()
    prompt = torch.arange(11).expand(4, -1) < torch.tensor(ends)[:, None]
    where = by_hand(positions, real, prompt)
    full = teacher_forced(plain, emotions, output.sequences, real, 7, (requests, where))
    assert_steps(output.logits, full, 7)
