"""What a model is given when it is calibrated."""

from __future__ import annotations

import pytest

from emokernel import EmokernelError
from emokernel.lab.calibrate import Prompts
from emokernel.lab.extract.queries import Queries, pairs

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def test_a_model_without_chat_template_continues_openings(tokenizer):
    prompts = Prompts.of(tokenizer, count=40)
    assert len(set(prompts.pairs)) == 40
    assert prompts.special_tokens
    openings = {query.text for query in Queries.openings()}
    assert all(prefix == "" and opening in openings for prefix, opening in prompts.pairs)
    of_extraction = {query.text for query in pairs(Queries.openings(), "joy", 80)}
    assert of_extraction.isdisjoint(opening for _, opening in prompts.pairs)


def test_a_chat_model_is_asked_without_an_instruction(tokenizer):
    tokenizer.chat_template = TEMPLATE
    prompts = Prompts.of(tokenizer, ["How are you?", "Why?", "Why?"], count=5)
    assert prompts.pairs == (
        ("[user] How are you?\n[assistant] ", ""),
        ("[user] Why?\n[assistant] ", ""),
    )
    assert not prompts.special_tokens
    shipped = {query.text for query in Queries.shipped().neutral}
    asked = [prefix[7:].split("\n")[0] for prefix, _ in Prompts.of(tokenizer).pairs]
    assert len(asked) == 40
    assert set(asked) <= shipped


def test_no_prompts_are_an_error(tokenizer):
    with pytest.raises(EmokernelError, match="the list is empty"):
        Prompts.of(tokenizer, [])
