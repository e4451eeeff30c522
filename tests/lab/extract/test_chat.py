"""Chat templates that lose what is said: of content parts, without roles, that think first."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from emokernel import EmokernelError
from emokernel.lab.extract.chat import render
from emokernel.lab.extract.prompts import Conditioning, question

QUERY = "Why is the sky blue?"
_END = "{% if add_generation_prompt %}[assistant] {% endif %}"


def _of_parts(begin: str = "messages") -> str:
    return (
        f"{{% for m in {begin} %}}[{{{{ m.role }}}}] {{% for part in m.content %}}"
        "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}" + _END
    )


WORKING = {
    "strings": "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}" + _END,
    "trimmed": "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}" + _END,
    "parts": _of_parts(),
    "first part": "{% for m in messages %}[{{ m.role }}] {{ m.content[0]['text'] }}\n{% endfor %}"
    + _END,
    "joined parts": "{% for m in messages %}{{ '[' + m.role + '] ' }}{{ m.content |"
    " selectattr('type', 'equalto', 'text') | map(attribute='text') | join }}\n{% endfor %}" + _END,
    "system a string, the user in parts": "[system] {{ messages[0].content + '\n' }}"
    + _of_parts("messages[1:]"),
    "parts without system": "{% if messages[0].role == 'system' %}{{ raise_exception('no system')"
    " }}{% endif %}" + _of_parts(),
}  # fmt: skip
LOSING = {
    "everything": ("[chat]" + _END, "leaves the user message out"),
    "the end": (
        "{% for m in messages %}{{ m.content[:10] }}{% endfor %}" + _END,
        "leaves the user message out",
    ),
    "no form fits": ("{{ messages[0].content.of.nothing }}", "fails"),
    "parts as they are": (
        "{% for m in messages %}{% if m.content is string %}{% else %}{{ m.content }}{% endif %}"
        "{% endfor %}",
        "leaves the user message out",
    ),
}


def tokenizer(template):
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")),
        unk_token="<unk>", chat_template=template, name_or_path="small/words",
    )  # fmt: skip


@pytest.mark.parametrize("template", WORKING.values(), ids=WORKING)
def test_a_context_holds_the_query_and_the_emotional_one_its_emotion(template):
    chat, words = Conditioning.chat(), tokenizer(template)
    emotional, neutral = chat.emotional(QUERY, "joy", words), chat.neutral(QUERY, words)
    for text in (emotional, neutral):
        assert QUERY in text
        assert "'text'" not in text
        assert text.endswith("[assistant] ")
    assert "joy" in emotional
    assert "joy" not in neutral


@pytest.mark.parametrize(("template", "fault"), LOSING.values(), ids=LOSING)
def test_a_template_that_loses_the_query_is_an_error_that_says_what_to_do(template, fault):
    with pytest.raises(EmokernelError, match=f"small/words {fault}.*plain text"):
        question(QUERY, tokenizer(template))
    with pytest.raises(EmokernelError, match=r"small/words .*plain text"):
        Conditioning.chat().neutral(QUERY, tokenizer(template))


def test_a_query_that_the_instruction_repeats_is_missed_all_the_same():
    only_system = "{{ messages[0].content }}" + _END
    with pytest.raises(EmokernelError, match="leaves the user message out"):
        render(
            [("system", f"Answer this with joy: {QUERY}"), ("user", QUERY)], tokenizer(only_system)
        )


def test_a_thought_that_the_template_opens_is_closed():
    opening = WORKING["strings"] + "<think>\n"
    text = question(QUERY, tokenizer(opening))
    assert text.endswith("[assistant] <think>\n\n</think>\n\n")


def test_both_names_of_thinking_are_declined():
    template = WORKING["strings"] + "{% if thinking is defined and not thinking %}(no){% endif %}"
    assert question(QUERY, tokenizer(template)).endswith("(no)")


@settings(max_examples=60, deadline=None)
@given(
    query=st.text(string.printable + "äß語'\"", min_size=1).filter(str.strip),
    template=st.sampled_from(["strings", "trimmed", "parts", "joined parts"]),
)
def test_whatever_is_asked_is_in_the_context(query, template):
    text = Conditioning.chat().emotional(query, "joy", tokenizer(WORKING[template]))
    assert query.strip() in text


def test_an_instruction_of_nothing_is_nothing_that_can_get_lost():
    chat = Conditioning.chat(variants=[("Be full of {emotion}.", "")])
    words = tokenizer(WORKING["strings"])
    assert QUERY in chat.neutral(QUERY, words)
    assert "joy" in chat.emotional(QUERY, "joy", words)
