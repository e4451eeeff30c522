"""The model as vLLM compiles it: the operation is traced, and steers what runs (trap 19)."""

from __future__ import annotations

import pytest
from real_vllm.cases import Case, assert_same_texts
from real_vllm.reference import Reference

STEPS, LOGITS = 24, 20
OPTIONS = {
    "enforce_eager": False, "enable_prefix_caching": False, "logprobs_mode": "raw_logits",
}  # fmt: skip
KINDS = (
    {}, {"emotion": "joy"}, {"emotion": {"joy": 0.5, "fear": 0.4}},
    {"emotion": "anger", "positions": "generated"}, {"emotion": "fear", "law": "add"},
)  # fmt: skip


@pytest.mark.parametrize("exact", [True, False])
def test_it_says_what_the_reference_says(engines, embedded, exact):
    cases = [Case(prompt, **kind) for prompt in embedded.prompts for kind in KINDS]
    expected = Reference(embedded.folder, embedded.vectors).texts(cases, STEPS)
    engine = engines(embedded, embedded.emotions(exact=exact), **OPTIONS)
    got = engine.texts(cases, STEPS, logits=LOGITS)
    assert_same_texts(got, expected, cases)
