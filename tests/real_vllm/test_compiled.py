"""The model as vLLM compiles it: the operation is traced, and steers what runs (trap 19).

The fused operation; `test_parallel` has the exact one, compiled in two parts.
"""

from __future__ import annotations

from real_vllm.cases import Case, assert_same_texts
from real_vllm.reference import Reference

STEPS = 24
KINDS = (
    {}, {"emotion": "joy"}, {"emotion": {"joy": 0.5, "fear": 0.4}},
    {"emotion": "anger", "positions": "generated"}, {"emotion": "fear", "law": "add"},
)  # fmt: skip


def test_it_says_what_the_reference_says(engines, embedded):
    """In batches of several sizes, none of which is compiled again."""
    cases = [Case(prompt, **kind) for prompt in embedded.prompts for kind in KINDS]
    expected = Reference(embedded.folder, embedded.vectors).texts(cases, STEPS)
    engine = engines(embedded, embedded.emotions(exact=False), enforce_eager=False)
    for count in (len(cases), 7, 1):
        assert_same_texts(engine.texts(cases[:count], STEPS), expected[:count], cases[:count])
    assert_same_texts(engine.texts(cases[1:2], STEPS), expected[1:2], cases[1:2])
