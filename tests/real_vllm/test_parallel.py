"""Several workers, each with a part of the model, steer every request alike (trap 26).

Engine core and workers are processes of their own here, as they are where models are served.
"""

from __future__ import annotations

import pytest
from real_vllm.cases import Case, assert_same_texts
from real_vllm.reference import Reference

STEPS = 40
KINDS = (
    {}, {"emotion": "joy"}, {"emotion": "anger", "positions": "generated"},
    {"emotion": "sadness", "positions": "prompt"}, {"emotion": "joy", "positions": "last"},
    {"emotion": {"joy": 0.5, "fear": 0.4}, "law": "add"},
)  # fmt: skip


@pytest.fixture
def apart(engines, monkeypatch):
    """Engines whose core is another process; ended with the test."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    yield engines
    engines.close()


def check(engine, model, **choices):
    cases = [Case(prompt, **kind) for prompt in model.prompts for kind in KINDS]
    expected = Reference(model.folder, model.vectors, **choices).texts(cases, STEPS)
    assert_same_texts(engine.texts(cases, STEPS), expected, cases)


def test_tensor_parallel_with_speculation(apart, embedded):
    """Drafts are steered at the positions where they would stand (trap 25)."""
    drafts = {
        "method": "ngram", "num_speculative_tokens": 4,
        "prompt_lookup_max": 3, "prompt_lookup_min": 1,
    }  # fmt: skip
    engine = apart(
        embedded, embedded.emotions(), tensor_parallel_size=2, disable_log_stats=False,
        speculative_config=drafts,
    )  # fmt: skip
    check(engine, embedded)
    assert engine.count("spec_decode_num_draft_tokens") > 100
    assert engine.count("spec_decode_num_accepted_tokens") > 20


def test_pipeline_parallel_and_compiled(apart, embedded):
    """The vectors of the last layer before the cut are added behind it. Eager, vLLM refuses it."""
    engine = apart(
        embedded, embedded.emotions(site="block"), pipeline_parallel_size=2, enforce_eager=False
    )
    check(engine, embedded, site="block")
