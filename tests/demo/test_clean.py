"""Cleaning of source text, and the word list that keeps the demo presentable."""

from __future__ import annotations

import pytest
from embedded.clean import MAX_WORDS, MIN_WORDS, clean
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emokernel.demo.wordlist import WordList, is_presentable


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("I don 't know what you want .", "I don't know what you want."),
        ("That's none of your business , is it ?", "That's none of your business, is it?"),
        ("- Where have you been ?", "Where have you been?"),
        ("... And then we left .", "And then we left."),
        ("“I’d like that” is fine", None),
        ("I’d like that…", "I'd like that..."),
        ("i cant believe it!!!", "I can't believe it!"),
        ("What are you doing?!?!", "What are you doing?"),
        ("I LOVE this so much 😍", "I love this so much."),
        ("Thank you for the help :)", "Thank you for the help."),
        ("u r the best, thx", "You are the best, thanks."),
        ("Give 'em what they want", "Give them what they want."),
        ("I'm not goin' there", "I'm not going there."),
        ("♪ Oh , what a beautiful morning ♪", "Oh, what a beautiful morning."),
        ("I wan na go home .", "I want to go home."),
        ("We saw it on TV.", "We saw it on TV."),
        ("Nooo, that is not fair", "No, that is not fair."),
    ],
)
def test_flaws_are_repaired(dirty: str, cleaned: str | None) -> None:
    assert clean(dirty) == cleaned


def test_placeholders_become_names() -> None:
    first, second = (clean(f"I think {who} is right about it.") for who in ("[NAME]", "[PERSON]"))
    assert first is not None
    assert second is not None
    assert "[" not in first + second
    assert first.split()[2].istitle()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Yes .",
        "JOHN: I never said that to you.",
        "See https://example.org for the rest of it.",
        "I asked u/someone about that yesterday.",
        "This is the best sub on r/aww today.",
        "Thanks @someone for the nice words.",
        "The [NAME] are a great team this year.",
        "I think [RELIGION] is a topic for later.",
        "You can *really* see the difference.",
        "I know &gt; you know that too.",
        "Downvote me all you want for this.",
        "What the f**k is this about?",
        "What the f😍uck is this about?",
        "This is total bullshit, you know.",
        "He was murdered in his own home.",
        "I want to kill that guy right now.",
        "They sold drugs at our school again.",
        "The president did it again today.",
        "Edit for the typo in the first line",
        "Weiß der Himmel, was das ist.",
        "Hmph grr bzzt pfft",
        " ".join(["and so it goes on"] * 8),
    ],
)
def test_unfit_lines_are_dropped(line: str) -> None:
    assert clean(line) is None


@pytest.mark.parametrize(
    "text",
    [
        "fucking", "motherfuckers", "f u c k", "f.u.c.k you", "f**k", "sh*t", "sh!t", "$hit", "a$$",
        "Daaamn it", "bitches", "what a b!tch", "ass", "dumbasses", "You are an @ss", "sexy",
        "drugged", "He slept with her.", "white people", "killing", "raping", "Nazis", "muslims",
        "retarded", "nigga", "#@%! you", "go to hell", "suicidal", "h3ll",
    ],
)  # fmt: skip
def test_blocked_words_are_found(text: str) -> None:
    assert not is_presentable(text)


@pytest.mark.parametrize(
    "text",
    [
        "The class in Scunthorpe was cancelled.", "I assume the bass player will pass.",
        "Hello, the shell is on the shelf.", "She assessed the cocktail menu.", "I hate waiting.",
        "He is an analyst from Sussex.", "A title for the document, please.", "It's a grape.",
        "That was a skillful move.", "I can't stand this stupid noise!", "A B C are letters.",
        "We moved the dictionary.", "It cost 5 dollars at 3 o'clock.", "U.S. law is different.",
        "The shitake", "Wash it.", "I can do it - I think.",
    ],
)  # fmt: skip
def test_harmless_words_pass(text: str) -> None:
    assert is_presentable(text)


def test_notation_of_the_list() -> None:
    words = WordList(["# comment", "", "drip", "=tap", "pour*", "*flow*", "open tap"])
    for text in ("dripping", "drips", "tap", "pouring", "overflowing", "an open tap"):
        assert words.blocks(text), text
    for text in ("drift", "taps", "vapour", "comment", "open the window"):
        assert not words.blocks(text), text


_PIECES = st.sampled_from(
    "I you the dog is don 't n't can't gonna wan na [NAME] [PERSON] , . ... ! ?! - -- ' '' : ( \" "
    "LOVE soooo TV damn f**k u r/x 😍 … ’ ’s I'm IT'S 3 3rd 'em em goin' l i don't.you ,, .. oh my "
    "god god's well-known x.com \u00a0 \t ½ ﬁne é :) <3 half - half it it it".split(" ")
)
_LINES = st.one_of(
    st.text(max_size=60),
    st.lists(_PIECES, max_size=14).map(" ".join),
    st.lists(_PIECES, max_size=14).map("".join),
)


@settings(max_examples=500, deadline=None)
@given(_LINES)
@example("I don 't know 'em .")
def test_clean_is_idempotent_and_presentable(line: str) -> None:
    cleaned = clean(line)
    if cleaned is None:
        return
    assert clean(cleaned) == cleaned
    assert is_presentable(cleaned)
    assert cleaned.isascii()
    assert MIN_WORDS <= len(cleaned.split()) <= MAX_WORDS
