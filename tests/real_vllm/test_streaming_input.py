"""A session whose input comes in parts."""

from __future__ import annotations

import asyncio

import pytest
import torch
from real_vllm.cases import Case
from real_vllm.engine import OPTIONS
from real_vllm.reference import Reference

STEPS = 12


@pytest.fixture(scope="module")
def reference(embedded):
    return Reference(embedded.folder, embedded.vectors)


@torch.inference_mode()
def by_hand(reference, turns, steps):
    """What each (ids, case) says, on top of the cache of those before it; and all ids computed.

    As vLLM has it, the last token of an answer is not part of what the next turn builds on.
    """
    cache, answers, computed = None, [], []
    for ids, case in turns:
        new, said = list(ids), []
        while len(said) < steps:
            with reference.steering.requests([case.request()]):
                output = reference.model(torch.tensor([new]), past_key_values=cache)
            cache, computed = output.past_key_values, computed + new
            new = [int(output.logits[0, -1].argmax())]
            said += new
        answers.append(said)
    return answers, computed


def sampling(case, steps):
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0, max_tokens=steps, ignore_eos=True, extra_args=case.extra_args(),
        output_kind=RequestOutputKind.DELTA,
    )  # fmt: skip


async def session(engine, turns, steps):
    """What each turn says, the next one sent when the one before has been answered."""
    from vllm.engine.protocol import StreamingInput
    from vllm.inputs.engine import tokens_input

    answers, answered = [[] for _ in turns], asyncio.Event()

    async def parts():
        for ids, case in turns:
            yield StreamingInput(tokens_input(list(ids)), sampling(case, steps))
            await answered.wait()
            answered.clear()

    at = 0
    async for output in engine.generate(parts(), sampling(turns[0][1], steps), "session"):
        answers[min(at, len(turns) - 1)] += output.outputs[0].token_ids
        if at < len(turns) and len(answers[at]) == steps:
            at += 1
            answered.set()
    return answers


async def one(engine, case, steps):
    """(tokens, how many of the prompt were cached) of a request of its own."""
    said, cached = [], 0
    prompt = {"prompt_token_ids": list(case.prompt)}
    async for output in engine.generate(prompt, sampling(case, steps), f"{case.emotion}"):
        said += output.outputs[0].token_ids
        cached = output.num_cached_tokens or cached
    return said, cached


@pytest.fixture
def asking(engines, embedded):
    """``asking(talk)``: what ``talk(engine)`` comes to, on an asynchronous engine of its own."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    async def run(talk):
        told = {"additional_config": {"emokernel": embedded.emotions()}}
        arguments = AsyncEngineArgs(str(embedded.folder), **OPTIONS, **told)
        engine = AsyncLLM.from_engine_args(arguments)
        try:
            return await talk(engine)
        finally:
            engine.shutdown()

    engines.close()
    return lambda talk: asyncio.run(run(talk))


def test_a_session_of_one_emotion(asking, embedded, reference):
    """Each turn builds on those before it, steered; its blocks are for its emotion alone."""
    joy = Case((), "joy")
    turns = [(prompt, joy) for prompt in embedded.prompts[1:]]
    expected, computed = by_hand(reference, turns, STEPS)
    later = [Case(computed, emotion) for emotion in ("joy", "anger", None)]
    afterwards = [text.tokens for text in reference.texts(later, STEPS)]

    async def talk(engine):
        answers = await session(engine, turns, STEPS)
        then = [await one(engine, case, STEPS) for case in later]
        with pytest.raises(Exception, match="keeps the emotion that it began with"):
            await session(engine, [turns[0], (turns[1][0], Case((), "anger"))], STEPS)
        return answers, then, await one(engine, later[0], STEPS)

    answers, then, again = asking(talk)
    assert answers == expected
    assert [said for said, _ in then] == afterwards
    whole = len(computed) // 32 * 32
    assert [cached for _, cached in then] == [whole, 0, 0]
    assert again == (afterwards[0], whole)
