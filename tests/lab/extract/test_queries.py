"""The shipped queries as writing, and which queries an emotion's contrast uses."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel import EmokernelError
from emokernel.demo.wordlist import is_presentable
from emokernel.errors import UnknownEmotionError
from emokernel.lab.extract.queries import Queries, pairs

GOEMOTIONS = """admiration amusement anger annoyance approval caring confusion curiosity desire
    disappointment disapproval disgust embarrassment excitement fear gratitude grief joy love
    nervousness optimism pride realization relief remorse sadness surprise""".split()
LOW_AROUSAL = "calm contentment boredom tiredness loneliness hope frustration serenity".split()
# Forms of the emotion's word that its own queries should mostly do without.
STEMS = {"anger": "ang[re]", "embarrassment": "embarrass", "tiredness": "tired", "joy": "joy"}


def words(text):
    return re.findall(r"[a-z0-9'-]+", text.lower())


def of(queries, emotion):
    """The queries of one emotion."""
    return tuple(query for query in queries if query.emotion == emotion)


@pytest.fixture(scope="module")
def shipped():
    return Queries.shipped()


@pytest.fixture(scope="module")
def openings():
    return Queries.openings()


def test_the_shipped_set_has_twenty_queries_of_each_emotion(shipped):
    assert set(shipped.emotions) == {*GOEMOTIONS, *LOW_AROUSAL}
    assert {len(of(shipped, emotion)) for emotion in shipped.emotions} == {20}
    assert len(shipped.neutral) == 120
    assert len(shipped.rows) == 35 * 20 + 120
    assert shipped.provenance["licence"] == "Apache-2.0"
    assert shipped.provenance["duplicates dropped"] == {}


def test_the_files_say_what_they_are():
    for name in ("queries.json", "openings.json"):
        content = json.loads((files("emokernel.lab.extract") / name).read_text("utf-8"))
        assert content["version"] == 1
        assert content["licence"] == "Apache-2.0"
        assert len(content["description"].split()) > 10


def test_no_query_stands_there_twice(shipped, openings):
    counts = Counter(" ".join(words(query.text)) for query in (*shipped, *openings))
    assert [text for text, count in counts.items() if count > 1] == []


def test_queries_are_sentences_of_5_to_30_words_that_can_be_shown_at_work(shipped):
    for query in shipped:
        assert 5 <= len(query.text.split()) <= 30, query
        assert query.text[-1] in ".?!", query
        assert query.text[0].isupper(), query
        assert query.text.isascii(), query
        assert is_presentable(query.text), query


def test_queries_begin_in_many_ways(shipped):
    for emotion in shipped.emotions:
        begins = Counter(tuple(words(query.text)[:2]) for query in of(shipped, emotion))
        assert max(begins.values()) <= 3, begins.most_common(1)
    begins = Counter(tuple(words(query.text)[:2]) for query in shipped.neutral)
    assert max(begins.values()) <= 6, begins.most_common(1)


def test_queries_call_for_an_emotion_without_naming_it(shipped):
    for emotion in shipped.emotions:
        stem = re.compile(r"\b" + STEMS.get(emotion, emotion.removesuffix("ness")[:7]))
        naming = [query.text for query in of(shipped, emotion) if stem.search(query.text.lower())]
        assert len(naming) <= 3, naming


def test_every_emotion_asks_some_questions_and_speaks_to_the_reader(shipped):
    for emotion in shipped.emotions:
        texts = [query.text for query in of(shipped, emotion)]
        assert any(text.endswith("?") for text in texts), emotion
        assert any("you" in words(text) or "me" in words(text) for text in texts), emotion


def test_the_openings_are_beginnings_and_none_of_those_the_demo_evaluates_with(openings):
    reserved = (files("emokernel.demo") / "openings.txt").read_text("utf-8").splitlines()
    reserved = {" ".join(words(line)) for line in reserved}
    assert len(openings.neutral) == len(openings.rows) == 120
    for opening in openings:
        assert 2 <= len(opening.text.split()) <= 5, opening
        assert opening.text[-1].isalpha(), opening
        assert is_presentable(opening.text), opening
        begin = " ".join(words(opening.text))
        assert not any(f"{begin} ".startswith(f"{line} ") for line in reserved), opening
        assert not any(f"{line} ".startswith(f"{begin} ") for line in reserved), opening


def test_queries_are_immutable_and_know_their_emotions():
    queries = Queries(((None, "a"), ("joy", "b"), ("fear", "c"), ("joy", "d")))
    assert queries.emotions == ("joy", "fear")
    assert queries.neutral == ((None, "a"),)
    assert [query.text for query in queries] == ["a", "b", "c", "d"]
    with pytest.raises(dataclasses.FrozenInstanceError, match="rows"):
        queries.rows = ()
    with pytest.raises(TypeError, match="assignment"):
        queries.provenance["name"] = "mine"


def test_an_emotion_without_queries_is_named_with_its_nearest_spelling(shipped):
    with pytest.raises(UnknownEmotionError, match=r"'gratitud'\. Did you mean 'gratitude'"):
        pairs(shipped, "gratitud")


def test_empty_queries_and_sets_are_refused():
    for rows in ([(None, "Well?"), ("joy", "  ")], []):
        with pytest.raises(EmokernelError, match="needs queries, and each of them text"):
            Queries(rows)


@given(limit=st.integers(1, 60), seed=st.integers(0, 5))
def test_pairs_take_own_and_neutral_queries_by_turns(limit, seed):
    chosen = pairs(Queries.shipped(), "joy", limit, seed)
    own = sum(query.emotion == "joy" for query in chosen)
    assert {query.emotion for query in chosen} <= {"joy", None}
    assert len({query.text for query in chosen}) == len(chosen) == limit
    assert own == 20 or abs(own - limit / 2) <= 0.5
    assert chosen == pairs(Queries.shipped(), "joy", limit, seed)
    # A smaller limit, as of a run that is continued with a larger one, is a beginning.
    assert chosen[: limit // 2 + 1] == pairs(Queries.shipped(), "joy", limit // 2 + 1, seed)


def test_pairs_without_limit_are_all_there_is(shipped):
    chosen = pairs(shipped, "joy")
    assert set(chosen) == {*of(shipped, "joy"), *shipped.neutral}
    assert [query.emotion for query in chosen[:6]].count("joy") == 3


def test_the_seed_decides_the_order(shipped):
    one, other = (pairs(shipped, "joy", None, seed) for seed in (1, 2))
    assert set(one) == set(other)
    for emotion in ("joy", None):
        first, second = ([q for q in each if q.emotion == emotion] for each in (one, other))
        assert first != second


def test_all_emotions_use_the_neutral_queries_in_one_order(shipped):
    joy, fear = (
        [query for query in pairs(shipped, emotion, 30) if query.emotion is None]
        for emotion in ("joy", "fear")
    )
    assert joy == fear
    assert len(joy) == 15


def test_an_emotion_of_the_users_own_is_contrasted_over_neutral_queries(shipped):
    chosen = pairs(shipped, "melancholy", 10)
    assert len(chosen) == 10
    assert {query.emotion for query in chosen} == {None}


def test_the_same_text_in_both_classes_is_asked_once():
    queries = Queries(((None, "How  are you?"), ("joy", "how are you?"), (None, "Well?")))
    assert len(pairs(queries, "joy")) == 2


def test_pairs_without_neutral_queries():
    queries = Queries((("joy", "One."), ("joy", "Two.")))
    assert set(pairs(queries, "joy")) == set(queries)
    with pytest.raises(UnknownEmotionError, match="'melancholy'"):
        pairs(queries, "melancholy")
    with pytest.raises(EmokernelError, match="limit is 0"):
        pairs(queries, "joy", 0)
