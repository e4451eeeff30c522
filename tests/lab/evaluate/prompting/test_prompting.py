"""Prompts: what chat models, models that continue text and the embedded model read."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel import EmokernelError
from emokernel.affect import TWELVE_STATES, Affect, Coordinates
from emokernel.demo.model import openings
from emokernel.lab.evaluate.prompting import Prompting, prompting
from emokernel.lab.evaluate.prompting.prompts import shipped
from emokernel.lab.measure.conditions import CONDITIONS

QUERY = "The {kettle} is on the <|joy|> stove."
CHAT, PLAIN = shipped("wordings")["chat"], shipped("wordings")["plain"]
WORDINGS = {"chat": CHAT, "without system": CHAT, "plain": PLAIN}
TENSE = Affect(valence=0.0, arousal=1.0)


def framing(kind: str, prompt: tuple[str, str]) -> str:
    """What stands before the query; everything around the two is checked."""
    patterns = {
        "chat": r"<\|bos\|><system>(.*)</system><user>(.*)</user><assistant>",
        "without system": r"<\|bos\|><user>(.*)\n\n(.*)</user><assistant>",
        "plain": r"(.*)\n\n(.*)",
    }
    assert (prompt[1] == "") == (kind != "plain")
    found = re.fullmatch(patterns[kind], "".join(prompt))
    assert found[2] == QUERY
    return found[1]


@pytest.mark.parametrize("kind", WORDINGS)
def test_values_are_put_with_arousal_first_and_multiplied_by_the_intensity(kind, made):
    state = Affect(valence=-0.5, arousal=0.866)
    asked = made(kind)
    for template in ("values", "values-actor"):
        for intensity, arousal, valence in ((1.0, "0.87", "-0.50"), (0.25, "0.22", "-0.12")):
            prompt = asked.of_state(template, state, QUERY, intensity)
            wording = WORDINGS[kind][template]
            assert wording.index("{arousal}") < wording.index("{valence}")
            filled = wording.replace("{arousal}", arousal).replace("{valence}", valence)
            assert framing(kind, prompt) == filled


@pytest.mark.parametrize("kind", WORDINGS)
def test_words_are_put_as_adjectives_and_nouns_with_a_degree(kind, made):
    asked = made(kind)
    for template in ("word", "word-actor"):
        wording = WORDINGS[kind][template]
        for prompt, feels in (
            (asked.of_state(template, TENSE, QUERY, 0.25), "feels slightly tense"),
            (asked.of_state(template, TENSE, QUERY), "feels extremely tense"),
            (asked.of_emotion(template, "joy", QUERY, 0.5), "has a moderate feeling of joy"),
            (asked.of_emotion(template, "sad", QUERY, 0.75), "feels strongly sad"),
            (asked.of_emotion(template, "no label", QUERY), "has an extreme feeling of no label"),
        ):
            assert framing(kind, prompt) == wording.replace("{feels}", feels)


@pytest.mark.parametrize("kind", WORDINGS)
def test_no_emotion_is_asked_for_by_values_which_several_of_them_share(kind, made):
    for template in ("values", "values-actor"):
        assert made(kind).of_emotion(template, "joy", QUERY) is None


def test_no_number_has_a_sign_before_zero(made):
    for state in TWELVE_STATES:
        for intensity in made("plain").intensities("values"):
            prefix, _ = made("plain").of_state("values", state, QUERY, intensity)
            assert "-0.00" not in prefix
            assert len(re.findall(r"-?[01]\.\d\d(?!\d)", prefix)) == 2


@pytest.mark.parametrize("kind", ["chat", "without system"])
def test_a_chat_asked_for_nothing_holds_the_query_alone(kind, made):
    assert made(kind).plain(QUERY) == (f"<|bos|><user>{QUERY}</user><assistant>", "")


@pytest.mark.parametrize("kind", ["plain", "embedded"])
def test_an_opening_asked_for_nothing_stands_alone(kind, made):
    assert made(kind).plain(QUERY) == ("", QUERY)


@pytest.mark.parametrize("kind", ["chat", "without system", "plain", "embedded"])
def test_every_prompt_begins_with_one_bos(kind, made):
    asked = made(kind)
    bos = asked.tokenizer.bos_token_id
    template = asked.templates[0]
    for prompt in (asked.plain("What now?"), asked.of_state(template, TENSE, "What now?")):
        ids = asked.tokenizer("".join(prompt), add_special_tokens=asked.special_tokens)["input_ids"]
        assert ids[0] == bos
        assert ids.count(bos) == 1


@pytest.mark.parametrize(
    ("kind", "templates"),
    [
        ("chat", ("values", "values-actor", "word", "word-actor")),
        ("plain", ("values", "values-actor", "word", "word-actor")),
        ("embedded", ("prefix",)),
    ],
)
def test_every_template_asks_for_every_state_in_another_way(kind, templates, made):
    asked = made(kind)
    assert (asked.kind, asked.templates) == (kind, templates)
    for template in templates:
        levels = asked.intensities(template)
        assert levels == ((1.0,) if kind == "embedded" else (0.25, 0.5, 0.75, 1.0))
        prompts = {
            asked.of_state(template, state, QUERY, level)
            for state in TWELVE_STATES
            for level in levels
        }
        # The prefixes are fewer than the states.
        assert len(prompts) == (8 if kind == "embedded" else 12 * len(levels))


def test_a_state_takes_the_prefix_of_the_nearest_emotion_of_the_table(made):
    nearest = {
        0: "gratitude", 30: "admiration", 60: "surprise", 90: "anger", 120: "fear", 150: "disgust",
        180: "disgust", 210: "remorse", 240: "remorse", 270: "caring", 300: "caring", 330: "caring",
    }  # fmt: skip
    asked = made("embedded")
    for angle, emotion in nearest.items():
        prompt = asked.of_state("prefix", Affect.at(angle, 0.3), "I just saw")
        assert prompt == (f"<|{emotion}|>", "I just saw")
    # With other coordinates, another one.
    own = made("embedded", coordinates=Coordinates({"joy": {"angle": 200.0}, "calm": (0.1, 0.1)}))
    assert own.of_state("prefix", Affect.at(0.0), "I") == ("<|joy|>", "I")


def test_a_prefix_is_one_token_of_the_tokenizer(made):
    asked = made("embedded")
    for emotion in CONDITIONS:
        prefix, opening = asked.of_emotion("prefix", emotion, "I just saw")
        assert opening == "I just saw"
        assert len(asked.tokenizer(prefix, add_special_tokens=False)["input_ids"]) == 1
    assert asked.of_emotion("prefix", "boredom", "I just saw") is None


def test_a_tokenizer_without_the_prefix_tokens_is_refused(made):
    class Other:
        name_or_path = "other/words"

        def get_added_vocab(self) -> dict[str, int]:
            return {"<|neutral|>": 3}

    with pytest.raises(EmokernelError, match=r"other/words has no token '<\|anger\|>'"):
        Prompting("embedded", Other(), ["I"], ["I"], Coordinates.named("russell"))


def test_a_table_without_the_emotions_of_the_prefixes_is_refused(made):
    asked = made("embedded", coordinates=Coordinates({"calm": (0.1, 0.1)}, name="mine"))
    with pytest.raises(EmokernelError, match="table 'mine' has no place for any emotion"):
        asked.of_state("prefix", TENSE, "I")


@pytest.mark.parametrize("kind", ["chat", "plain", "embedded"])
@pytest.mark.parametrize("method", ["of_state", "of_emotion"])
def test_what_cannot_be_asked_for_is_an_error_that_names_what_can(kind, method, made):
    asked: Prompting = made(kind)
    ask = getattr(asked, method)
    what = TENSE if method == "of_state" else "joy"
    known = ", ".join(asked.templates)
    with pytest.raises(EmokernelError, match=rf"no template 'poem' .* one of {known}$"):
        ask("poem", what, QUERY)
    with pytest.raises(EmokernelError, match="no template 'poem'"):
        asked.intensities("poem")
    levels = "1" if kind == "embedded" else "0.25, 0.5, 0.75, 1"
    with pytest.raises(EmokernelError, match=rf"intensity 0.3: choose one of {levels}$"):
        ask(asked.templates[0], what, QUERY, 0.3)


@pytest.mark.parametrize(("kind", "template"), [("chat", "word"), ("embedded", "prefix")])
def test_the_centre_has_no_word(kind, template, made):
    with pytest.raises(EmokernelError, match="no word is nearest to the neutral centre"):
        made(kind).of_state(template, Affect(0.0, 0.0), QUERY)


def test_a_chat_template_that_fails_is_an_error(made):
    for ask in (
        made("failing").plain,
        lambda query: made("failing").of_state("word", TENSE, query),
    ):
        with pytest.raises(EmokernelError, match=r"fails \(no conversations\): give"):
            ask(QUERY)


@given(kind=st.sampled_from(["chat", "plain", "embedded"]), query=st.text(min_size=1))
def test_a_query_is_put_in_as_it_stands(kind, query, made):
    asked = made(kind)
    for template in asked.templates:
        prefix, opening = asked.of_state(template, TENSE, query)
        if kind == "chat":
            assert prefix.endswith(f"<user>{query}</user><assistant>")
        else:
            assert opening == query


def test_chat_models_are_asked_questions_and_others_continue_openings(made):
    assert made("chat").questions == tuple(shipped("questions")["questions"])
    assert made("chat").queries == tuple(shipped("questions")["queries"])
    for kind in ("plain", "embedded"):
        assert made(kind).questions == made(kind).queries == openings()


def test_the_embedded_model_has_prefixes_whatever_its_tokenizer_holds(made):
    tokenizer, table = made("chat").tokenizer, Coordinates.named("russell")
    asked = prompting(tokenizer, embedded=True, openings=["I just saw"], coordinates=table)
    assert (asked.kind, asked.questions, asked.queries) == ("embedded", *[("I just saw",)] * 2)


@pytest.mark.parametrize("kind", ["chat", "plain", "embedded"])
def test_own_questions_and_queries_are_taken(kind, made):
    asked = made(kind, questions=["Why?"], queries=["How?", "When?"])
    assert (asked.questions, asked.queries) == (("Why?",), ("How?", "When?"))
    with pytest.raises(EmokernelError, match="questions: there is no text"):
        made(kind, questions=[])
    with pytest.raises(EmokernelError, match=r"queries: 'why\?' occurs more than once"):
        made(kind, queries=["Why?", "why?"])


@pytest.mark.parametrize("kind", ["chat", "plain", "embedded"])
def test_the_description_is_plain_data_with_the_wordings(kind, made):
    asked = made(kind)
    described = asked.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["kind"] == kind
    assert tuple(described["templates"]) == asked.templates
    assert described["templates"] == dict(asked.wordings)
    assert ("own wordings" in described.get("source", "")) == (kind != "embedded")
    assert set(described["words"]) == {str(angle) for angle in range(0, 360, 30)}
    assert described["words"]["90"] == ("anger" if kind == "embedded" else "tense")


def test_the_wordings_say_what_the_scales_mean_and_name_no_emotion():
    table = set(Coordinates.named("russell")) | set(CONDITIONS) - {"neutral"}
    for wording in [*CHAT.values(), *PLAIN.values()]:
        assert not table & set(re.findall(r"[a-z]+", wording.casefold()))
        fields = re.findall(r"\{(\w+)\}", wording)
        assert fields in (["arousal", "valence"], ["feels"])
        if "valence" in fields:
            for word in ("-1", " 0", "unpleasant", "neutral", "arousal", "valence"):
                assert word in wording.casefold()
