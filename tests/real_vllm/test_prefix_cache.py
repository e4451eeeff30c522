"""Blocks are shared between requests exactly when their tokens were steered alike (trap 17).

Blocks have 32 tokens. What is counted are the tokens that vLLM took out of its cache; beside it
every text has to be the reference's, whatever was shared.
"""

from __future__ import annotations

import pytest
from real_vllm.cases import Case
from real_vllm.reference import Reference

STEPS = 4
GENERATED = {"emotion": "joy", "positions": "generated"}
LAST = {"emotion": "joy", "positions": "last"}
PROMPT = {"emotion": "joy", "positions": "prompt"}
JOY, ANGER, MIX = {"emotion": "joy"}, {"emotion": "anger"}, {"emotion": {"joy": 0.5, "fear": 0.4}}


@pytest.fixture(scope="module")
def reference(embedded):
    return Reference(embedded.folder, embedded.vectors)


@pytest.fixture
def ask(engines, embedded, reference):
    """``ask(prompt, steps=4, **kind)``: (tokens from the cache, tokens generated)."""
    engine = engines(embedded, embedded.emotions(), enable_prefix_caching=True)
    assert engine.llm.reset_prefix_cache()

    def ask(prompt, steps=STEPS, **kind):
        case = Case(prompt, **kind)
        (text,) = engine.texts([case], steps)
        (expected,) = reference.texts([case], steps)
        assert text.tokens == expected.tokens
        return text.cached, text.tokens

    return ask


@pytest.fixture
def long(embedded):
    """70 tokens: two blocks, and a part of one."""
    return [token for prompt in embedded.prompts for token in prompt][:70]


def test_a_prompt_is_shared_with_its_own_emotion_alone(ask, long):
    rows = [({}, 0), (JOY, 0), (ANGER, 0), (MIX, 0), ({}, 64), (JOY, 64), (ANGER, 64), (MIX, 64)]
    assert [ask(long, **kind)[0] for kind, _ in rows] == [cached for _, cached in rows]
    other = {"strength": 0.5}, {"law": "add"}, {"strength": -1.0}
    assert [ask(long, **JOY, **more)[0] for more in other] == [0, 0, 0]


def test_a_prompt_that_is_not_steered_is_shared_with_everybody(ask, long):
    """Positions generated and last leave the prompt, so far as it fills blocks; prompt does not."""
    assert ask(long)[0] == 0
    assert ask(long, **GENERATED)[0] == 64
    assert ask(long, **LAST)[0] == 64
    assert ask(long, emotion="anger", positions="generated")[0] == 64
    assert ask(long, emotion="joy", strength=0.0)[0] == 64
    assert ask(long, **JOY)[0] == 0
    assert ask(long, **PROMPT)[0] == 64


def test_the_same_said_in_two_ways_is_shared(ask, long):
    assert ask(long, **MIX)[0] == 0
    for spoken in ('{"joy": 0.5, "fear": 0.4}', ["joy", 0.5, "fear", 0.4]):
        assert ask(long, **MIX, spoken=spoken)[0] == 64
    assert ask(long, emotion="anger", strength=0.5)[0] == 0
    assert ask(long, emotion={"anger": 0.5})[0] == 64


def test_the_last_token_of_a_prompt_counts_with_what_follows(ask, long):
    """The block in which it stands is steered, though all but one token of its prompt are not."""
    prompt = long[:64]
    said = ask(prompt, 40, **LAST)[1]
    # What is asked next has both as its prompt, 104 tokens.
    assert ask([*prompt, *said])[0] == 32
    assert ask([*prompt, *said])[0] == 96


def test_a_turn_that_follows(ask, long):
    """Over text that was generated with joy: what stands before it is all that is shared."""
    prompt = long[:40]
    said = ask(prompt, 60, **GENERATED)[1]
    turn = [*prompt, *said, *long[40:45]]
    assert ask(turn)[0] == 32  # the block of which every token is of the prompt
    assert ask(turn)[0] == 96
    assert ask(turn, **GENERATED)[0] == 96
    assert ask(turn, **JOY)[0] == 0


def test_a_turn_that_follows_with_the_same_emotion_everywhere(ask, long):
    prompt = long[:40]
    said = ask(prompt, 60, **JOY)[1]
    turn = [*prompt, *said, *long[40:45]]
    assert ask(turn, **JOY)[0] == 96
    assert ask(turn, **PROMPT)[0] == 96
    assert ask(turn)[0] == 0
    assert ask(turn, **ANGER)[0] == 0
