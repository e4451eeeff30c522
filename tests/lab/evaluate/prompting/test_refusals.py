"""Refusals and disclaimers against people who are moved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel.lab.evaluate.prompting import is_refusal

DISCLAIMERS = [
    "As an AI language model, I don't have feelings.",
    "As an artificial intelligence, I do not own a home.",
    "As a large language model trained by Example, I see it like this.",
    "I'm just an AI, so art has no hold on me.",
    "I am a language model and I have never lived in a city.",
    "I am only a computer program.",
    "I'm an AI assistant and have no home.",
    "I don't have personal feelings or opinions, but art matters.",
    "I do not hold personal beliefs.",
    "I don't truly have human experiences.",
    "I do not experience emotions the way humans do.",
    "I don't have feelings like a person does.",
    "I don't have feelings or emotions, but here goes.",
    "I can't express personal opinions.",
]
REFUSALS = [
    "I'm sorry, but I can't.",
    "I'm sorry, but I can't help with that.",
    "I apologize, but I am unable to do that.",
    "Sorry, I can't assist with this request.",
    "I'm sorry, I can't answer that.",
    "I cannot answer that question.",
    "I'm not able to play the role of a miserable person.",
    "I am unable to take on that role.",
    "I cannot provide a response to that prompt.",
    "I cannot pretend to be a person who feels angry.",
    "Unfortunately, I cannot comply with your request.",
    "I must decline to answer.",
    "I respectfully decline this request.",
    "I would rather not answer this question.",
    "I'm not comfortable answering this question.",
    "I won't continue this conversation.",
]
MOVED = [
    "I can't stop crying.",
    "I'm sorry for your loss.",
    "I'm sorry, but I can't stop crying.",
    "I'm sorry, I can't wait!",
    "I'm afraid I can't go on.",
    "I can't help but smile.",
    "I cannot express how happy I am!",
    "I can't answer the phone, my hands shake.",
    "I can't complete my tasks today.",
    "I can't bear this conversation.",
    "I can't stop thinking about that question.",
    "I can't do that to her.",
    "I can't write about home without tears.",
    "I can't pretend to be someone I'm not.",
    "I won't pretend that I'm fine.",
    "I won't answer his calls.",
    "I'm unable to sleep.",
    "I don't have feelings for him anymore.",
    "I don't have any feelings left.",
    "I don't have opinions about wine.",
    "My brother said he can't help with that.",
    "As an AI researcher, I love this.",
    "As an artist I am free.",
    "I'm an assistant at a bakery and I love it.",
    "They use AI at work and I hate it.",
    "",
]

# Words of sentences that refuse nothing.
_sentences = st.lists(
    st.sampled_from(["It rains.", "What a day!", "Who knows?", "The sea is far, I think."]),
    min_size=2,
    max_size=5,
).map(" ".join)


@pytest.mark.parametrize("text", DISCLAIMERS + REFUSALS)
def test_a_refusal_is_one_however_it_is_set(text):
    assert is_refusal(text)
    assert is_refusal(text.upper())
    assert is_refusal(f"\n\n {text.replace(chr(39), '’')} ".replace(" ", "  "))
    assert is_refusal(f"Thank you for your question. {text} Ask me another!")


@pytest.mark.parametrize("text", MOVED)
def test_a_person_who_is_moved_refuses_nothing(text):
    assert not is_refusal(text)
    assert not is_refusal(text.replace("'", "’"))


@given(before=_sentences, text=st.sampled_from(REFUSALS))
def test_a_refusal_counts_in_the_first_two_sentences_only(before, text):
    assert not is_refusal(f"{before} {text}")


@given(before=_sentences, text=st.sampled_from(DISCLAIMERS), after=_sentences)
def test_a_disclaimer_counts_anywhere(before, text, after):
    assert is_refusal(f"{before} {text} {after}")


@given(before=_sentences, text=st.sampled_from(MOVED))
def test_neutral_sentences_make_no_refusal(before, text):
    assert not is_refusal(f"{text} {before}")
    assert not is_refusal(f"{before} {text}")
