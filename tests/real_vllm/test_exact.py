"""A request that asks for nothing has the bits of vLLM without the plugin: tokens and logits.

Given the same requests: all ask for equal steps, and none shares a prefix, so that each forward has
the shape it has there. Guards the idle engine, and rows beside steered ones.
"""

from __future__ import annotations

import pytest
from real_vllm.cases import Case
from real_vllm.plain import plain_texts

STEPS, LOGITS = 20, 20
KINDS = (
    {"emotion": "joy"}, {"emotion": "anger", "positions": "generated"},
    {"emotion": {"joy": 0.5, "fear": 0.4}}, {"emotion": "sadness", "positions": "prompt"},
    {"emotion": "fear", "law": "add", "strength": 0.6}, {"emotion": "joy", "positions": "last"},
)  # fmt: skip
RUNS = (("embedded", "float32"), ("embedded", "bfloat16"), ("smollm2", "bfloat16"))


def options(dtype):
    return {
        "dtype": dtype, "enable_prefix_caching": False, "logprobs_mode": "raw_logits",
        "max_model_len": 256,
    }  # fmt: skip


def idle_and_mixed(model):
    """Twelve prompts that ask for nothing; the same with steered ones between them."""
    prompts = [prompt[:length] for prompt in model.prompts for length in (99, 19, 13)]
    idle = [Case(prompt) for prompt in prompts]
    steered = [Case(p, **KINDS[number % len(KINDS)]) for number, p in enumerate(prompts)]
    return idle, [case for pair in zip(idle, steered, strict=True) for case in pair]


@pytest.fixture(scope="module")
def plain(request, scratch):
    """(model, dtype) -> the texts of both batches in vLLM without the plugin."""
    jobs = []
    for name, dtype in RUNS:
        model = request.getfixturevalue(name)
        batches = [[case.prompt for case in batch] for batch in idle_and_mixed(model)]
        job = {"folder": str(model.folder), "options": options(dtype), "batches": batches}
        jobs.append({**job, "steps": STEPS, "logits": LOGITS})
    return dict(zip(RUNS, plain_texts(jobs, scratch), strict=True))


@pytest.mark.parametrize(("name", "dtype"), RUNS)
def test_what_asks_for_nothing_has_the_bits_of_plain_vllm(request, engines, plain, name, dtype):
    model = request.getfixturevalue(name)
    engine = engines(model, model.emotions(), **options(dtype))
    idle, mixed = idle_and_mixed(model)
    plain_idle, plain_mixed = plain[name, dtype]
    for _ in range(2):  # before anybody was steered, and after
        assert bits(engine.texts(idle, STEPS, logits=LOGITS)) == bits(plain_idle)
        said = engine.texts(mixed, STEPS, logits=LOGITS)
        assert bits(said[::2]) == bits(plain_mixed[::2])
        steered = zip(said[1::2], plain_mixed[1::2], strict=True)
        assert all(a.logits != b.logits for a, b in steered)


def bits(texts):
    """Tokens, and the logits beside them, which came as float32 and compare as such."""
    return [
        (text.tokens, [[tuple(entry) for entry in row] for row in text.logits]) for text in texts
    ]
