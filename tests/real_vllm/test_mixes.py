"""Many different mixes: each request is steered by its own, however many there have been."""

from __future__ import annotations

import pytest
from real_vllm.cases import Case, assert_same_texts, tokens
from real_vllm.reference import Reference

STEPS = 12


def different(prompt, count):
    """``count`` mixes of two or three emotions, no two alike, as strong as one at full strength."""
    names = ("joy", "fear", "anger", "sadness", "surprise", "disgust", "love", "curiosity")
    kinds = []
    for number in range(count):
        first, second = names[number % 8], names[(number + 1 + number // 8) % 8]
        mix = {first: 0.9 - 0.01 * number, second: 0.3 + 0.01 * number}
        third = names[(number + 5) % 8]
        kinds.append(mix if third in mix or number % 3 else {**mix, third: -0.2})
    assert len({str(kind) for kind in kinds}) == count
    return [Case(prompt, kind) for kind in kinds]


@pytest.fixture(scope="module")
def reference(embedded):
    return Reference(embedded.folder, embedded.vectors)


def test_as_many_mixes_in_one_batch_as_there_are_slots(engines, embedded, reference):
    """32 requests of one prompt with 32 mixes fill all slots; each says what it says alone."""
    cases = different(embedded.prompts[1], 32)
    engine = engines(embedded, embedded.emotions(), max_num_seqs=32)
    texts = engine.texts(cases, STEPS)
    assert len({tuple(text.tokens) for text in texts}) > 16
    assert_same_texts(texts, engine.alone(cases, STEPS), cases)
    assert_same_texts(texts, reference.texts(cases, STEPS), cases)


def test_more_mixes_over_time_than_slots(engines, embedded, reference):
    """Slots never freed, or freed too early (trap 30): 40 mixes through 4 slots, twice.

    Requests of every length join and leave, with unsteered ones among them (trap 21).
    """
    plain = Case(embedded.prompts[0])
    cases = [each for case in different(embedded.prompts[2], 40) for each in (case, plain)]
    lengths = [3 + 5 * number % STEPS for number in range(len(cases))]
    whole = tokens(reference.texts(cases, max(lengths)))
    expected = [text[:length] for text, length in zip(whole, lengths, strict=True)]
    engine = engines(embedded, embedded.emotions(), max_num_seqs=4)
    assert tokens(engine.texts(cases, lengths)) == expected
    assert tokens(engine.texts(cases[::-1], lengths[::-1])) == expected[::-1]
