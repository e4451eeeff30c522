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
# Inductor leaves out the rounding of sums that it computes again, and rounds those that it stores,
# as it has to where they are steered: unless it is told to round as the model says.
ROUNDED = {"inductor_compile_config": {"emulate_precision_casts": True}}
RUNS = {
    "embedded in float32": ("embedded", {"dtype": "float32"}),
    "embedded in bfloat16": ("embedded", {"dtype": "bfloat16"}),
    "smollm2 in bfloat16": ("smollm2", {"dtype": "bfloat16"}),
    "embedded in bfloat16, compiled": (
        "embedded", {"dtype": "bfloat16", "enforce_eager": False, "compilation_config": ROUNDED}
    ),
}  # fmt: skip
OPTIONS = {"enable_prefix_caching": False, "logprobs_mode": "raw_logits", "max_model_len": 256}


def idle_and_mixed(model):
    """Twelve prompts that ask for nothing; the same with steered ones between them."""
    prompts = [prompt[:length] for prompt in model.prompts for length in (99, 19, 13)]
    idle = [Case(prompt) for prompt in prompts]
    steered = [Case(p, **KINDS[number % len(KINDS)]) for number, p in enumerate(prompts)]
    return idle, [case for pair in zip(idle, steered, strict=True) for case in pair]


@pytest.fixture(scope="module")
def plain(request, scratch):
    """A run -> the texts of both batches in vLLM without the plugin."""
    jobs = []
    for name, chosen in RUNS.values():
        model = request.getfixturevalue(name)
        batches = [[case.prompt for case in batch] for batch in idle_and_mixed(model)]
        job = {"folder": str(model.folder), "options": OPTIONS | chosen, "batches": batches}
        jobs.append({**job, "steps": STEPS, "logits": LOGITS})
    return dict(zip(RUNS, plain_texts(jobs, scratch), strict=True))


@pytest.mark.parametrize("run", RUNS)
def test_what_asks_for_nothing_has_the_bits_of_plain_vllm(request, engines, plain, run):
    name, chosen = RUNS[run]
    model = request.getfixturevalue(name)
    engine = engines(model, model.emotions(), **OPTIONS, **chosen)
    idle, mixed = idle_and_mixed(model)
    plain_idle, plain_mixed = plain[run]
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
