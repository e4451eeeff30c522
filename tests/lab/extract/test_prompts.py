"""Conditioning: what the model reads, through chat templates and without."""

from __future__ import annotations

import re

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from emokernel import EmokernelError
from emokernel.lab.extract.prompts import Conditioning, wordings
from emokernel.lab.extract.queries import Queries

CHAT, PLAIN, PLAIN_OPENINGS = map(wordings, ("chat", "plain", "openings"))
QUERY = "The kettle is on the stove."
CHATML = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
REFUSING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + CHATML
)
DROPPING = CHATML.replace("messages %}", "messages if m.role != 'system' %}", 1)
FAILING = "{{ raise_exception('no conversations') }}"
THINKING = CHATML + "{% if not enable_thinking | default(true) %}<think></think>{% endif %}"


def tokenizer(chat_template=None, special=()):
    """A tokenizer of words that begins every text with <s> when it adds special tokens."""
    built = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1}, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    built.add_special_tokens([AddedToken(token) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=built, bos_token="<s>", unk_token="<unk>", chat_template=chat_template,
        name_or_path="small/words",
    )  # fmt: skip


def instruction(emotion=None):
    """What `CHAT` says for `QUERY`."""
    emotional, neutral = CHAT[[emotional for emotional, _ in CHAT].index(_said())]
    return neutral if emotion is None else emotional.replace("{emotion}", emotion)


def _said():
    text = Conditioning.chat().emotional(QUERY, "{emotion}", tokenizer(CHATML))
    return re.search("<system>(.*)</system>", text)[1]


def test_a_chat_has_a_system_message_the_query_and_the_beginning_of_an_answer():
    chat, words = Conditioning.chat(), tokenizer(CHATML)
    assert chat.emotional(QUERY, "joy", words) == (
        f"<s><system>{instruction('joy')}</system><user>{QUERY}</user><assistant>"
    )
    assert chat.neutral(QUERY, words) == (
        f"<s><system>{instruction()}</system><user>{QUERY}</user><assistant>"
    )


@pytest.mark.parametrize("template", [REFUSING, DROPPING], ids=["refused", "dropped"])
def test_without_a_system_role_the_instruction_stands_in_the_users_turn(template):
    text = Conditioning.chat().emotional(QUERY, "joy", tokenizer(template))
    assert text == f"<s><user>{instruction('joy')}\n\n{QUERY}</user><assistant>"


def test_a_template_that_can_think_is_told_not_to():
    assert (
        Conditioning.chat()
        .neutral(QUERY, tokenizer(THINKING))
        .endswith("<assistant><think></think>")
    )


def test_a_tokenizer_without_chat_template_is_named_and_the_way_out_too():
    with pytest.raises(EmokernelError, match=r"small/words has no chat template.*plain"):
        Conditioning.chat().emotional(QUERY, "joy", tokenizer())


def test_a_chat_template_that_fails_is_an_error_that_says_why():
    with pytest.raises(EmokernelError, match=r"small/words fails \(no conversations\)"):
        Conditioning.chat().neutral(QUERY, tokenizer(FAILING))


@pytest.mark.parametrize(
    "conditioning",
    [
        Conditioning.chat(),
        Conditioning.plain(),
        Conditioning.plain(openings=True),
        Conditioning.prefix("<|{emotion}|>{query}", "<|neutral|>{query}"),
    ],
    ids=["chat", "plain", "openings", "prefix"],
)
def test_a_context_is_encoded_with_one_bos(conditioning):
    words = tokenizer(CHATML, special=["<|joy|>", "<|neutral|>"])
    for text in (conditioning.emotional(QUERY, "joy", words), conditioning.neutral(QUERY, words)):
        encoded = words(text, add_special_tokens=conditioning.adds_special_tokens)
        assert encoded["input_ids"].count(words.bos_token_id) == 1
        assert encoded["input_ids"][0] == words.bos_token_id


def test_a_prefix_stands_right_before_the_opening():
    prefix = Conditioning.prefix("<|{emotion}|>{query}", "<|neutral|>{query}")
    words = tokenizer(special=["<|joy|>", "<|neutral|>"])
    assert prefix.emotional("When the bell", "joy", words) == "<|joy|>When the bell"
    assert prefix.neutral("When the bell", words) == "<|neutral|>When the bell"


def test_a_prefix_that_is_no_token_is_an_error():
    prefix = Conditioning.prefix("<|{emotion}|>{query}", "<|neutral|>{query}")
    words = tokenizer(special=["<|joy|>", "<|neutral|>"])
    with pytest.raises(EmokernelError, match=r"no token '<\|joi\|>'.*mean '<\|joy\|>'"):
        prefix.emotional("When the bell", "joi", words)


def test_a_query_is_put_in_as_it_stands():
    words = tokenizer(CHATML)
    query = "What does {emotion} or {query} or <|joy|> mean in this file?"
    for conditioning in (Conditioning.chat(), Conditioning.plain()):
        assert query in conditioning.emotional(query, "joy", words)
        assert query in conditioning.neutral(query, words)


@pytest.mark.parametrize(
    ("conditioning", "expected"),
    [
        (Conditioning.chat(), CHAT),
        (Conditioning.plain(), PLAIN),
        (Conditioning.plain(openings=True), PLAIN_OPENINGS),
    ],
    ids=["chat", "plain", "openings"],
)
def test_every_wording_is_used_and_both_contexts_of_a_query_use_the_same(conditioning, expected):
    words = tokenizer(CHATML)
    used = set()
    for query in (*Queries.shipped(), *Queries.openings()):
        emotional = conditioning.emotional(query.text, "joy", words)
        neutral = conditioning.neutral(query.text, words)
        chosen = {
            number
            for number, wording in enumerate(expected)
            for template, text in zip(wording, (emotional, neutral), strict=True)
            if template.replace("{emotion}", "joy").replace("{query}", query.text) in text
        }
        assert len(chosen) == 1
        used |= chosen
    assert used == set(range(len(expected)))


@pytest.mark.parametrize("pairs", [CHAT, PLAIN, PLAIN_OPENINGS])
def test_wordings_take_a_noun_and_the_two_of_a_pair_are_about_as_long(pairs):
    for emotional, neutral in pairs:
        # "a feeling of approval" reads well where "full of approval" does not.
        assert re.search(r"(feeling|sense|that) of \{emotion\}", emotional)
        assert "emotion}" not in neutral
        assert 0.8 < len(emotional.split()) / len(neutral.split()) < 1.25


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conditioning.prefix("<|joy|>{query}", "{query}"), r"needs \{emotion\}"),
        (lambda: Conditioning.prefix("<|{emotion}|>", "{query}"), r"needs \{query\} in it, once"),
        (lambda: Conditioning.prefix("{emotion}{query}{query}", "{query}"), "in it, once"),
        (lambda: Conditioning.prefix("{emotion}{query}", "neutral"), r"needs \{query\}"),
        (lambda: Conditioning.prefix("{emotion}{query}", "{emotion}{query}"), "is the contrast"),
        (lambda: Conditioning.chat(variants=[]), "'chat' needs at least one wording"),
        (lambda: Conditioning.plain(variants=[]), "'plain' needs at least one wording"),
        (lambda: Conditioning.chat(variants=[("Be {emotion}: {query}", "Be")]), "of its own"),
    ],
)
def test_wordings_that_make_no_contrast_are_refused(make, message):
    with pytest.raises(EmokernelError, match=message):
        make()


def test_an_emotion_without_a_name_is_refused():
    for conditioning in (Conditioning.chat(), Conditioning.plain()):
        with pytest.raises(EmokernelError, match="no name of an emotion"):
            conditioning.emotional(QUERY, " ", tokenizer(CHATML))


def test_the_description_holds_the_wordings():
    chat = Conditioning.chat(variants=[("Feel {emotion}.", "Feel nothing.")])
    assert chat.describe() == {"kind": "chat", "variants": [["Feel {emotion}.", "Feel nothing."]]}
    assert Conditioning.prefix("{emotion} {query}", "{query}").describe() == {
        "kind": "prefix",
        "variants": [["{emotion} {query}", "{query}"]],
    }
