"""Cached blocks are shared where they were made alike, and nowhere else."""

from __future__ import annotations

import pytest
from engines.continuous.harness import assert_as_alone, finished, managing, steps_of
from hypothesis import given
from hypothesis import strategies as st

from emokernel import Request
from emokernel.choices import POSITIONS
from emokernel.engines.continuous.prefixes import HashedTokens, Prefixes
from emokernel.state import Asked, Mix
from emokernel.state.tickets import Ticket

PAGE = 8
JOY = "emotion 1"
ALL, PROMPT, GENERATED, LAST = (Request(JOY, 2.0, positions=name) for name in POSITIONS)
OTHER = Request("emotion 2", 2.0)
WEAKER = Request(JOY, 1.0)
ADDED = Request(JOY, 2.0, law="add")
PLAIN = None


def prefilled(steps, request_id, prompt):
    """How many prompt tokens a request had to compute, because no block held them."""
    return sum(
        min(start + tokens, len(prompt)) - start
        for step in steps
        for told, start, tokens in step["requests"]
        if told == request_id and start < len(prompt)
    )


def run_one_by_one(model, prompts, requests):
    """(Results, prompt tokens that each computed) of requests that follow each other."""
    results, computed = [], []
    with managing(model, start=False, page=PAGE) as manager, steps_of(manager) as steps:
        manager.start()
        for prompt, request in zip(prompts, requests, strict=True):
            request_id = manager.add_request(prompt, emotion=request)
            results.append(finished(manager, 1)[request_id])
            computed.append(prefilled(steps, request_id, prompt))
    return results, computed


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (PLAIN, PLAIN, 3),
        (PLAIN, GENERATED, 3),
        (GENERATED, PLAIN, 3),
        (GENERATED, Request("emotion 2", positions="generated"), 3),
        (ALL, ALL, 3),
        (ALL, PROMPT, 3),
        (LAST, PLAIN, 3),
        (PLAIN, LAST, 3),
        (LAST, Request("emotion 2", positions="last"), 3),
        (ALL, PLAIN, 0),
        (PLAIN, ALL, 0),
        (PROMPT, GENERATED, 0),
        (ALL, OTHER, 0),
        (ALL, WEAKER, 0),
        (ALL, ADDED, 0),
        (LAST, PROMPT, 0),
    ],
)
def test_prompt_blocks_are_shared_where_prompts_are_steered_alike(
    steered, texts, first, second, shared
):
    model, steering = steered()
    prompt = (texts[4] + texts[5])[: 3 * PAGE + 5]
    results, computed = run_one_by_one(model, [prompt] * 2, [first, second])
    assert computed == [len(prompt), len(prompt) - shared * PAGE]
    for result, request in zip(results, (first, second), strict=True):
        assert_as_alone(model, steering, result, prompt, request)


@pytest.mark.parametrize(
    ("first", "second", "shared"), [(LAST, PLAIN, 1), (PLAIN, LAST, 2), (LAST, OTHER, 0)]
)
def test_a_block_that_ends_with_a_steered_last_token_is_not_shared(
    steered, texts, first, second, shared
):
    """The longer prompt goes on behind the shorter, whose last token alone is steered."""
    model, steering = steered()
    long = (texts[4] + texts[5])[: 3 * PAGE]
    prompts = [long[: 2 * PAGE], long]
    results, computed = run_one_by_one(model, prompts, [first, second])
    assert computed[1] == len(long) - shared * PAGE
    for result, prompt, request in zip(results, prompts, (first, second), strict=True):
        assert_as_alone(model, steering, result, prompt, request)


def test_blocks_of_generated_tokens_are_shared_where_these_were_made_alike(steered, texts):
    """A text is continued: its generated part is prompt now, and was steered or was not."""
    model, steering = steered()
    prompt = (texts[4] + texts[5])[: 2 * PAGE]
    for first, second, blocks in [
        (GENERATED, PLAIN, 2), (GENERATED, ALL, 0), (PLAIN, PLAIN, 4), (ALL, PROMPT, 4),
    ]:  # fmt: skip
        with managing(model, start=False, page=PAGE) as manager, steps_of(manager) as steps:
            manager.start()
            request_id = manager.add_request(prompt, emotion=first, max_new_tokens=2 * PAGE + 2)
            longer = prompt + finished(manager, 1)[request_id].generated_tokens
            request_id = manager.add_request(longer, emotion=second)
            result = finished(manager, 1)[request_id]
        assert prefilled(steps, request_id, longer) == len(longer) - blocks * PAGE
        assert_as_alone(model, steering, result, longer, second)


def test_a_request_cancelled_while_its_step_runs_registers_no_block(steered, texts):
    """As it happens where a batch is prepared while the one before runs: its ticket is gone."""
    model, steering = steered()
    prompt = (texts[4] + texts[5])[: 3 * PAGE]
    with managing(model, start=False, page=PAGE) as manager, steps_of(manager) as steps:
        processor = manager.batch_processor
        update = processor.update_batch

        def cancelled_meanwhile():
            vars(processor).pop("update_batch")
            processor.scheduler.set_request_cancellation(cancelled)
            processor.scheduler.clear_cancelled_requests()
            update()

        vars(processor)["update_batch"] = cancelled_meanwhile
        cancelled = manager.add_request(prompt, emotion=ALL)
        manager.start()
        request_id = manager.add_request(prompt, emotion=PLAIN)
        result = finished(manager, 1)[request_id]
    assert prefilled(steps, request_id, prompt) == len(prompt)
    assert_as_alone(model, steering, result, prompt, PLAIN)


def test_without_the_salt_a_request_would_read_the_blocks_of_another(steered, texts, monkeypatch):
    """What the tests above guard against does happen."""
    monkeypatch.setattr(Prefixes, "_hashed", lambda self, request_id, ids: ids)
    model, steering = steered()
    prompt = (texts[4] + texts[5])[: 3 * PAGE + 5]
    results, computed = run_one_by_one(model, [prompt] * 2, [ALL, PLAIN])
    assert computed == [len(prompt), 5]
    with pytest.raises(AssertionError):
        assert_as_alone(model, steering, results[1], prompt, PLAIN)


_ASKED = st.builds(
    Asked,
    st.sampled_from([None, Mix(((0, 1.0),)), Mix(((0, 2.0),)), Mix(((1, 1.0),))]),
    st.sampled_from(list(POSITIONS.values())),
)


@given(_ASKED, st.integers(1, 20), st.integers(0, 25), st.integers(0, 25))
def test_slots_of_a_span_are_those_of_its_tokens_one_by_one(asked, prompt, start, tokens):
    ticket = Ticket(asked, 3, prompt)
    of_prompt, of_last, of_generated = (3 if allowed else -1 for allowed in asked.kinds)
    wanted = [
        of_prompt if at < prompt - 1 else of_last if at == prompt - 1 else of_generated
        for at in range(start, start + tokens)
    ]
    assert ticket.slots_of(start, start + tokens) == wanted


@given(_ASKED, _ASKED, st.integers(1, 12), st.integers(1, 12), st.integers(0, 2))
def test_two_blocks_are_hashed_by_the_same_just_if_they_are_steered_alike(
    one, other, of_one, of_other, block
):
    """The same 12 tokens of two requests, whose prompts end at different places."""
    ids, numbers = list(range(12)), {}

    def told(asked, prompt):
        slot = -1 if asked[0] is None else 0
        number = numbers.setdefault(asked[0], len(numbers) + 1)
        ticket = Ticket(asked, slot, prompt)
        steered = [number if s == 0 else 0 for s in ticket.slots_of(4 * block, 4 * block + 4)]
        return HashedTokens(ids, ticket, number)[4 * block : 4 * block + 4], steered

    (hashed, steered), (hashed_too, steered_too) = told(one, of_one), told(other, of_other)
    assert (hashed == hashed_too) == (steered == steered_too)
    assert (len(hashed) == 4) == (not any(steered))
