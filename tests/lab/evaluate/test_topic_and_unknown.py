"""Emotions that no judge knows, and what a sentence encoder says of the topic, from end to end."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest
from lab.evaluate.conftest import Words, texts_in, the

from emokernel.lab.report import write_report


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    """({"results": of one run, made on demand}, its folder)."""
    return {}, tmp_path_factory.mktemp("unknown")


@pytest.fixture
def calm(unknown, run, word_emotions, settings):
    """(folder, results) of a run with an emotion that no judge knows, and an encoder."""
    kept, folder = unknown
    if not kept:
        few = replace(settings, openings=3, compared=2, strengths=(0.25, 0.5, 1.0), doses=(0.2,))
        vectors = word_emotions.renamed({"sadness": "calm"})
        kept["results"] = run(folder, vectors=vectors, settings=few, sentences=Words())
    return folder, kept["results"]


def test_an_emotion_that_no_judge_knows_is_written_and_left_out_of_what_they_find(calm):
    folder, results = calm
    written = [text for text in texts_in(folder) if text["name"] == "calm"]
    assert {(text["by"], text["strength"]) for text in written} == {
        ("strength", strength) for strength in (0.25, 0.5, 1.0)
    }
    assert not any("intended" in text for text in written)
    point = the(results.emotions, emotion="calm", mode="vector", strength=1.0)
    assert point.measures.intended == point.measures.top == {}
    assert point.measures.perplexity_ratio > 0
    assert "calm" not in {each.emotion for each in (*results.monotone, *results.judged)}
    assert "calm" not in {name for law in results.laws for name in law.emotions}
    notes = " ".join(results.about["notes"])
    assert "The judge words has no labels for calm: what it finds of them is not known" in notes
    assert "The judge second has no labels for " in notes
    assert notes.count("in no mean over emotions") == 1, "means are by the main judge"
    (goal,) = (g for g in results.goals if g.name.startswith("Probability of the intended"))
    assert "over 3 emotions" in goal.value
    known = [p for p in results.emotions if (p.by, p.strength) == ("strength", 1) if p is not point]
    (perplexity,) = (g for g in results.goals if g.name == "Perplexity at strength 1")
    assert f"{mean(p.measures.perplexity_ratio for p in known):.2f} times" in perplexity.value
    write_report(folder, results)
    page = (folder / "report.md").read_text("utf-8")
    assert "it has no label for calm, which the mean leaves out" in page


def test_sentences_say_how_much_of_the_topic_is_kept(calm):
    folder, results = calm
    texts, encoder = texts_in(folder), Words()
    plain = {(t["query"], t["seed"]): t["answer"] for t in texts if t["mode"] == "unsteered"}

    def similar(of, other):
        return mean(float(a @ b) for a, b in zip(encoder(of), encoder(other), strict=True))

    at_one = [t for t in texts if (t.get("by"), t.get("strength")) == ("strength", 1)]
    joy = [t for t in at_one if t["name"] == "joy"]
    queries, answers = [t["query"] for t in joy], [t["answer"] for t in joy]
    unsteered = [plain[t["query"], t["seed"]] for t in joy]
    sentences = the(results.emotions, emotion="joy", by="strength", strength=1.0).measures.sentences
    assert sentences.to_query.mean == pytest.approx(similar(answers, queries), abs=1e-4)
    assert sentences.to_unsteered.mean == pytest.approx(similar(answers, unsteered), abs=1e-4)
    share = similar(answers, queries) / similar(unsteered, queries)
    assert sentences.kept.mean == pytest.approx(share, rel=1e-3)
    own = the(results.emotions, emotion="joy", mode="unsteered").measures.sentences
    assert own.kept.mean == own.to_unsteered.mean == 1
    (goal,) = (g for g in results.goals if g.name.startswith("Topic at strength 1"))
    assert goal.holds is not None
    assert set(results.about["sentences"]) == {"other_seed", "other_query", "separation"}
    assert results.about["sentence encoder"] == "words counted"
    known = [t for t in at_one if t["name"] != "calm"]
    over = similar([t["answer"] for t in known], [t["query"] for t in known]) / similar(
        [plain[t["query"], t["seed"]] for t in known], [t["query"] for t in known]
    )
    assert goal.value.startswith(f"{over:.2f} (")


def test_an_encoder_reads_a_run_that_was_finished_without_one(run, tmp_path, settings):
    few = replace(settings, openings=2, doses=(), strengths=(1.0,), intensities=(1.0,))
    first = run(tmp_path, settings=few)
    assert "sentences" not in first.about
    (goal,) = (g for g in first.goals if g.name.startswith("Topic at strength 1"))
    assert goal.holds is None
    written = texts_in(tmp_path)
    second = run(tmp_path, settings=few, sentences=Words())
    assert texts_in(tmp_path) == written
    assert second.emotions[-1].measures.sentences
    assert first.emotions[-1].measures == replace(second.emotions[-1].measures, sentences=None)
