"""Blocks are shared exactly by requests whose tokens up to their end were steered alike."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel.engines.vllm.asked import KEY, KINDS, packed
from emokernel.engines.vllm.prefix_cache import extra_keys
from emokernel.reference import Law
from emokernel.state import Asked, Mix

LENGTH = 24
MIXES = [None, Mix(((0, 1.0),)), Mix(((0, 0.5), (1, 0.5))), Mix(((0, 1.0),), Law.ADD)]
_REQUESTS = st.tuples(
    st.sampled_from(MIXES), st.sampled_from(KINDS), st.integers(1, LENGTH + 2)
)  # of the prompt


def request(mix, kinds, prompt):
    given = packed(Asked(mix, kinds), "digest")
    extra = None if given is None else {KEY: given}
    return SimpleNamespace(
        sampling_params=SimpleNamespace(extra_args=extra), num_prompt_tokens=prompt
    )


def plain(request, start, stop, number):
    """vLLM's own, of a request with a LoRA adapter and a salt in its first block."""
    keys = (*getattr(request, "lora", ()), *(("salt",) if start == 0 else ()))
    return keys or None, number + 1


def chain(asked, size):
    """What the hash of each block is made of, without the tokens: it holds the one before."""
    keys, number = [], 0
    for start in range(0, LENGTH - size + 1, size):
        each, number = extra_keys(plain, asked, start, start + size, number)
        keys.append(each)
    return [tuple(keys[: block + 1]) for block in range(len(keys))]


def by_token(mix, kinds, prompt):
    """What each token was steered by, said one by one."""
    told = []
    for place in range(LENGTH):
        kind = 0 if place < prompt - 1 else 1 if place == prompt - 1 else 2
        told.append(mix if kinds[kind] else None)
    return told


@given(_REQUESTS, _REQUESTS, st.integers(1, 9))
def test_blocks_are_shared_exactly_where_all_tokens_were_steered_alike(one, other, size):
    chains = [chain(request(*each), size) for each in (one, other)]
    tokens = [by_token(*each) for each in (one, other)]
    for block, (first, second) in enumerate(zip(*chains, strict=True)):
        end = (block + 1) * size
        assert (first == second) is (tokens[0][:end] == tokens[1][:end])


@given(_REQUESTS, st.integers(0, LENGTH - 1), st.integers(1, 9))
def test_a_block_without_steering_has_the_key_that_it_has_without_us(asked, start, size):
    stop = min(LENGTH, start + size)
    made = request(*asked)
    keys = extra_keys(plain, made, start, stop, 3)
    wanted = plain(made, start, stop, 3)
    if any(by_token(*asked)[start:stop]):
        assert keys[0] != wanted[0]
        assert keys[0][:-1] == (wanted[0] or ())
        assert len(keys[0][-1]) == 2  # what publishes events takes a name and a value apart
        assert keys[1:] == wanted[1:]
    else:
        assert keys == wanted


def test_what_told_blocks_apart_before_still_does():
    adapted = request(MIXES[1], KINDS[7], 8)
    adapted.lora = ("adapter",)
    assert extra_keys(plain, adapted, 0, 4, 0)[0][:2] == ("adapter", "salt")
    assert extra_keys(plain, adapted, 4, 8, 0)[0][:1] == ("adapter",)


@pytest.mark.parametrize("params", [None, SimpleNamespace(extra_args=None)])
def test_a_request_without_sampling_is_let_be(params):
    pooled = SimpleNamespace(sampling_params=params, num_prompt_tokens=4)
    assert extra_keys(plain, pooled, 0, 4, 0) == plain(pooled, 0, 4, 0)


def test_a_follow_up_turn_shares_what_was_prompt_in_both():
    """What was generated under joy is prompt now, and steered otherwise."""
    first, second = (chain(request(MIXES[1], KINDS[4], prompt), 4) for prompt in (8, 20))
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, *[False] * 4]
    everything = [chain(request(MIXES[1], KINDS[7], prompt), 4) for prompt in (8, 20)]
    assert everything[0] == everything[1]
