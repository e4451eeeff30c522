"""The whole evaluation of a small model: what its figures follow from, resumption, bad input."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from statistics import mean

import pytest
from lab.evaluate.conftest import same, texts_in, the
from word_model import NAMES, WordJudge

from emokernel import EmokernelError, EmotionVectors
from emokernel.affect import TWELVE_STATES, Coordinates
from emokernel.lab.evaluate.evaluation import GENERATIONS
from emokernel.lab.evaluate.plan import Settings
from emokernel.lab.evaluate.prompting import prompting
from emokernel.lab.measure import generation
from emokernel.lab.measure.fluency import looping, surprises
from emokernel.lab.measure.intervals import rank_correlation
from emokernel.lab.measure.sampling import Sampling
from emokernel.patch.decoder import find_decoder
from emokernel.replaced import has_replaced
from emokernel.vectors.calibration import Calibration

RUSSELL = Coordinates.named("russell")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(folder, results) of one run, made on demand."""
    return {}, tmp_path_factory.mktemp("evaluated")


@pytest.fixture
def finished(done, run):
    kept, folder = done
    if not kept:
        kept["results"] = run(folder)
    return folder, kept["results"]


def test_every_text_is_kept_with_what_was_read_in_it(finished):
    texts = texts_in(finished[0])
    vector, both, prompt = 12 * 2, 12 * 2, 12 * 2
    emotions = 4 * (1 + 2 * (5 + 2))
    assert len(texts) == 5 * 2 * (1 + vector + both + prompt + emotions)
    for text in texts:
        assert text["opening"] == text["query"]
        assert set(text["top"]) == {"words", "second"}
        assert text["tokens"] > 0
        assert text["nats"] > 0
    steered = [text for text in texts if text["mode"] == "vector" and text.get("by")]
    assert {text["law"] for text in steered} == {"preserve", "add"}
    assert all(t["name"] != "surprise" or "second" not in t["intended"] for t in steered)


@pytest.mark.parametrize("mode", ["vector", "prompt", "both"])
@pytest.mark.parametrize("intensity", [0.5, 1.0])
def test_consistency_follows_from_the_texts(finished, mode, intensity):
    folder, results = finished
    row = the(results.consistency, mode=mode, intensity=intensity, judge="words")
    states = {f"{state.angle:.0f}": state for state in TWELVE_STATES}
    cosines, places = [], defaultdict(list)
    for text in texts_in(folder):
        if text["mode"] == mode and text.get("intensity") == intensity:
            state, point = states[text["name"]], RUSSELL.get(text["top"]["words"])
            x, y = (point.valence, point.arousal) if point else (0.0, 0.0)
            cosines.append(x * state.valence + y * state.arousal)
            places[text["name"]].append((x, y))
    assert len(cosines) == row.texts == 12 * 5 * 2
    assert row.cosine.mean == pytest.approx(mean(cosines), abs=1e-9)
    assert row.cosine.low <= row.cosine.mean <= row.cosine.high
    for state in row.states:
        found = [mean(axis) for axis in zip(*places[f"{state.angle:.0f}"], strict=True)]
        assert state.found == pytest.approx(found, abs=1e-9)


def test_measures_follow_from_the_texts(finished):
    folder, results = finished
    texts = texts_in(folder)
    plain = [text for text in texts if text["mode"] == "unsteered"]
    joy = [
        text
        for text in texts
        if (text["name"], text.get("law"), text.get("by")) == ("joy", "add", "strength")
        and text["strength"] == 1
    ]
    point = the(results.emotions, emotion="joy", law="add", by="strength", strength=1.0)
    measures = point.measures

    def surprise(of):
        return sum(text["nats"] for text in of) / sum(text["tokens"] for text in of)

    assert measures.texts == len(joy) == 10
    assert measures.intended["words"].mean == pytest.approx(
        mean(text["intended"]["words"] for text in joy)
    )
    assert measures.perplexity_ratio == pytest.approx(math.exp(surprise(joy) - surprise(plain)))
    assert -1 <= measures.to_unsteered.low <= measures.to_unsteered.mean < 1
    row = next(row for row in results.consistency if row.mode == "both")
    both = [text for text in texts if (text["mode"], text.get("intensity")) == ("both", 0.5)]
    assert row.perplexity == pytest.approx(math.exp(surprise(both) - surprise(plain)))
    assert measures.top["words"].mean == mean(text["top"]["words"] == "joy" for text in joy)
    assert measures.looping == looping([text["answer"] for text in joy])
    unsteered = the(results.emotions, emotion="joy", mode="unsteered").measures
    assert unsteered.intended["words"].mean == pytest.approx(
        mean(text["intended"]["words"]["joy"] for text in plain)
    )
    assert unsteered.to_unsteered.mean == pytest.approx(1)
    assert unsteered.perplexity_ratio == 1


def test_laws_are_compared_in_pairs_at_one_dose(finished):
    folder, results = finished
    by_law = defaultdict(list)
    for text in texts_in(folder):
        if text.get("divergence") == 0.6:
            by_law[text["law"]].append((text["name"], text["query"], text["seed"], text))
    law = the(results.laws, divergence=0.6)
    assert set(law.emotions) == set(NAMES)
    means = {
        name: mean(text["intended"]["words"] for *_, text in of) for name, of in by_law.items()
    }
    assert law.intended == pytest.approx(means)
    assert law.intended_difference.mean == pytest.approx(means["preserve"] - means["add"])
    nats = {
        name: mean(text["nats"] / text["tokens"] for *_, text in of) for name, of in by_law.items()
    }
    assert law.surprise_difference.mean == pytest.approx(nats["preserve"] - nats["add"])


def test_doses_are_those_that_were_asked_for(finished, model, word_emotions):
    _, results = finished
    doses = [point.divergence for point in results.emotions if point.by == "dose"]
    assert len(doses) == 2 * 2 * 4
    for dose in doses:
        assert min(abs(dose / asked - 1) for asked in (0.2, 0.6)) < 0.01
    for law in results.laws:
        assert law.realised == pytest.approx(
            dict.fromkeys(("preserve", "add"), law.divergence), rel=0.01
        )
    ladder = sorted(
        (point.strength, point.divergence)
        for point in results.emotions
        if point.emotion == "joy" and point.law == "add" and point.by == "strength"
        if point.strength > 0
    )
    assert [kl for _, kl in ladder] == sorted(kl for _, kl in ladder)
    first, second = (
        (p.divergence, p.strength)
        for p in results.emotions
        if (p.emotion, p.law, p.by) == ("joy", "add", "dose")
    )
    assert first < second


def test_steering_shows(finished):
    _, results = finished
    rows = {mode: the(results.consistency, mode=mode, intensity=1.0, judge="words")
            for mode in ("vector", "prompt")}  # fmt: skip
    assert rows["vector"].cosine.mean > rows["vector"].floor.high
    assert rows["vector"].p < 0.01
    assert rows["vector"].cosine.mean > rows["prompt"].cosine.mean + 0.1
    goals = {goal.name: goal for goal in results.goals}
    assert goals["Mean cosine by vector above that by prompt"].holds is not None
    assert goals["Probability of the intended emotion at strength 1"].holds is not None
    assert len(results.monotone) == 2 * 4
    (agreement,) = results.agreement
    assert agreement.texts == 3 * 12 * 2 * 10
    joy = the(results.judged, emotion="joy")
    assert joy.steered["words"] > joy.unsteered["words"]
    assert joy.separation["words"] > 0.6
    assert results.samples[0].texts["joy, by vector"].startswith(results.samples[0].opening)


def test_what_the_second_judge_does_not_know_is_said(finished):
    _, results = finished
    assert any("The judge second has no labels for surprise:" in n for n in results.about["notes"])
    surprise = the(results.emotions, emotion="surprise", mode="unsteered").measures
    assert set(surprise.intended) == {"words"}
    assert results.ceilings == []
    assert {row.emotion for row in results.judged} == {"anger", "joy", "sadness"}


@pytest.fixture
def samples(monkeypatch):
    """The texts that are sampled, counted; ``limit`` of the list ends the run like Ctrl-C."""
    plain, batches = generation.sample, []
    limit = [math.inf]

    def counted(model, tokenizer, contexts, *rest, **options):
        if len(batches) >= limit[0]:
            raise KeyboardInterrupt
        batches.append(len(contexts))
        return plain(model, tokenizer, contexts, *rest, **options)

    monkeypatch.setattr(generation, "sample", counted)
    return batches, limit


def test_an_interrupted_run_goes_on_to_the_same_results(finished, run, tmp_path, samples, model):
    batches, limit = samples
    folder, results = finished
    limit[0] = 4
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert not has_replaced(find_decoder(model).owner)
    kept = len(texts_in(tmp_path))
    assert kept == sum(batches) > 0
    with (tmp_path / GENERATIONS).open("a") as file:
        file.write('{"key": "torn')
    limit[0] = math.inf
    again = run(tmp_path)
    assert sum(batches) == len(texts_in(tmp_path)) == len(texts_in(folder))
    assert same(again.consistency, results.consistency)
    assert same(again.emotions, results.emotions)


def test_a_finished_run_is_read_and_more_of_anything_goes_on_from_it(
    run, tmp_path, samples, settings
):
    batches, _ = samples
    few = replace(settings, openings=3, doses=(), strengths=(1.0,), intensities=(1.0,))
    first = run(tmp_path, settings=few)
    written = sum(batches)
    again = run(tmp_path, settings=few)
    assert again.consistency == first.consistency
    assert sum(batches) == written
    assert f"{written} texts were there from an earlier run" in " ".join(again.about["notes"])
    assert "earlier run" not in " ".join(first.about["notes"])
    more = replace(few, seeds=3, strengths=(1.0, 2.0))
    run(tmp_path, settings=more)
    cells = 1 + 3 * 12 + 4 + 2 * 4
    assert sum(batches) - written == 3 * (cells + 2 * 2 * 4 + 2 * 4)


def test_the_folder_of_another_run_is_left_alone(run, tmp_path, settings, word_emotions):
    few = replace(settings, openings=2, doses=(), strengths=(1.0,), intensities=(1.0,), seeds=1)
    run(tmp_path, settings=few)
    before = (tmp_path / GENERATIONS).read_bytes()
    others = {
        "vectors": {"vectors": word_emotions.scaled(2.0)},
        "sampling": {"settings": replace(few, sampling=Sampling(7))},
        "judges": {"second": None},
        "steering": {"law": "add"},
    }
    for what, change in others.items():
        with pytest.raises(EmokernelError, match=rf"begun with other settings: .*{what}.*restart"):
            run(tmp_path, **{"settings": few, **change})
    assert (tmp_path / GENERATIONS).read_bytes() == before
    run(tmp_path, settings=few, second=None, restart=True)
    assert set(texts_in(tmp_path)[0]["top"]) == {"words"}


def test_what_no_dose_strengthens_counts_as_unsteered(run, tmp_path, word_emotions, settings):
    strengths = {"anger": 1.0, "joy": 0.0, "sadness": 1.0, "surprise": 1.0}
    calibration = Calibration(
        "block", (1.0, 1.0, 1.0), "preserve", "absolute", "wheel", "russell",
        {"preserve absolute": strengths}, {"preserve absolute wheel": (0.0,) * 4 + (1.0,) * 8},
    )  # fmt: skip
    few = replace(settings, openings=3, doses=(0.2,), strengths=(0.5, 1.0))
    results = run(tmp_path, vectors=word_emotions.with_calibration(calibration), settings=few)
    texts = texts_in(tmp_path)
    plain = {(t["query"], t["seed"]): t["answer"] for t in texts if t["mode"] == "unsteered"}
    joy = [t for t in texts if t["name"] == "joy" and t["mode"] == "vector"]
    assert len(joy) == 2 * 3 * 2
    assert all(t["answer"] == plain[t["query"], t["seed"]] for t in joy)
    angry = [t for t in texts if t["name"] == "anger" and t["mode"] == "vector"]
    assert any(t["answer"] != plain[t["query"], t["seed"]] for t in angry)
    notes = " ".join(results.about["notes"])
    assert "No dose within the bounds of the calibration strengthens" in notes
    assert "joy" in notes
    assert "not calibrated for the law add" in notes
    assert results.laws == []


def test_states_and_emotions_are_compared_with_their_own_unsteered_texts(
    run, tmp_path, tokenizer, settings
):
    lists = [f"w{n} w{n + 1} w{n + 2}" for n in range(20, 26)]
    asked = prompting(
        tokenizer, embedded=False, openings=lists, coordinates=RUSSELL,
        questions=lists[:3], queries=lists[3:],
    )  # fmt: skip
    few = replace(settings, doses=(), strengths=(1.0,), intensities=(1.0,))
    results = run(tmp_path, prompting=asked, settings=few)

    texts = texts_in(tmp_path)

    def surprise(of):
        return sum(text["nats"] for text in of) / sum(text["tokens"] for text in of)

    def plain(queries):
        return surprise([t for t in texts if t["mode"] == "unsteered" and t["query"] in queries])

    states = [t for t in texts if (t["experiment"], t["mode"]) == ("states", "vector")]
    row = the(results.consistency, mode="vector", judge="words")
    assert row.perplexity == pytest.approx(math.exp(surprise(states) - plain(lists[:3])))
    joy = [t for t in texts if (t["name"], t.get("law"), t["mode"]) == ("joy", "add", "vector")]
    point = the(results.emotions, emotion="joy", law="add", mode="vector").measures
    assert point.perplexity_ratio == pytest.approx(math.exp(surprise(joy) - plain(lists[3:])))


def test_only_missing_doses_are_counted_as_unsteered(run, tmp_path, word_emotions, settings):
    """Other reasons for which a request is refused end the run before its first text."""
    strengths = {"preserve absolute": dict.fromkeys(NAMES, 1.0)}
    own = Calibration(
        "block", (1.0, 1.0, 1.0), "preserve", "absolute", "wheel", "russell", strengths, {}
    )
    few = replace(settings, laws=("preserve",))
    with pytest.raises(EmokernelError, match="has not been calibrated for preserve absolute axes"):
        run(tmp_path, vectors=word_emotions.with_calibration(own), settings=few, mapping="axes")
    assert not (tmp_path / GENERATIONS).exists()


def test_a_run_that_grew_is_the_run_that_was_large_at_once(run, tmp_path, settings):
    large = replace(settings, openings=3, strengths=(1.0,), intensities=(1.0,))
    run(tmp_path / "grown", settings=replace(large, openings=2, seeds=1))
    grown = run(tmp_path / "grown", settings=large)
    fresh = run(tmp_path / "fresh", settings=large)
    assert same(grown.consistency, fresh.consistency)
    assert same(grown.laws, fresh.laws)
    assert same(grown.emotions, fresh.emotions)


def test_other_queries_in_the_same_folder_have_their_own_adherence(
    run, tmp_path, settings, tokenizer
):
    few = replace(settings, openings=3, strengths=(1.0,), intensities=(1.0,), doses=())
    other = prompting(
        tokenizer, embedded=False, coordinates=RUSSELL,
        openings=["w40 w47", "w41 w48", "w20 w21 w22"],
    )  # fmt: skip
    run(tmp_path / "both", settings=few)
    after = run(tmp_path / "both", settings=few, prompting=other)
    alone = run(tmp_path / "alone", settings=few, prompting=other)
    assert same(after.emotions, alone.emotions)


def test_perplexity_is_behind_the_plain_query(finished, model, tokenizer):
    prompted = [text for text in texts_in(finished[0]) if text["mode"] == "prompt"][:6]
    pairs = [(text["query"], text["answer"]) for text in prompted]
    nats, tokens = surprises(model, tokenizer, pairs)
    assert [text["nats"] for text in prompted] == pytest.approx(nats.tolist(), rel=1e-3)
    assert [text["tokens"] for text in prompted] == tokens.tolist()


def test_emotions_rise_up_to_strength_one_only(finished):
    results = finished[1]
    for each in results.monotone:
        points = {
            p.strength: p.measures.intended["words"].mean
            for p in results.emotions
            if p.emotion == each.emotion and (p.law == each.law or p.mode == "unsteered")
            if p.by != "dose" and 0 <= p.strength <= 1
        }
        assert set(points) == {0.0, 0.25, 0.5, 1.0}
        expected = rank_correlation(list(points), list(points.values()))
        assert each.correlation == pytest.approx(expected)


def test_the_advantage_over_prompts_is_paired(finished):
    folder, results = finished
    states = {f"{state.angle:.0f}": state for state in TWELVE_STATES}
    found = {"vector": {}, "prompt": {}}
    for text in texts_in(folder):
        if text["mode"] in found and text.get("intensity") == 1:
            state, place = states[text["name"]], RUSSELL.get(text["top"]["words"])
            x, y = (place.valence, place.arousal) if place else (0.0, 0.0)
            key = text["name"], text["query"], text["seed"]
            found[text["mode"]][key] = x * state.valence + y * state.arousal
    more = mean(found["vector"][key] - found["prompt"][key] for key in found["prompt"])
    (goal,) = (g for g in results.goals if g.name == "Mean cosine by vector above that by prompt")
    assert f"text by text {more:+.3f} (" in goal.value


def test_a_judge_that_chose_the_strengths_is_refused(run, tmp_path, word_emotions):
    calibration = Calibration(
        "block", (1.0, 1.0, 1.0), "add", "absolute", "wheel", "russell",
        {"add absolute": dict.fromkeys(NAMES, 1.0)}, {}, record={"judge_digest": "words"},
    )  # fmt: skip
    with pytest.raises(EmokernelError, match="'words' has chosen these strengths"):
        run(tmp_path, vectors=word_emotions.with_calibration(calibration))
    assert not (tmp_path / GENERATIONS).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"second": WordJudge()}, "both judges are 'words'"),
        (
            {"vectors": lambda v: v.renamed({name: f"{name}!" for name in NAMES})},
            "say which of them count for 'anger!'",
        ),
        ({"labels_of": {"joy": "bliss"}}, "say which of them count for 'joy'"),
        ({"labels_of": {"bliss": "joy"}}, "unknown emotion 'bliss'"),
        (
            {"vectors": lambda v: replace(v, provenance={"fingerprint": {"model_type": "gpt2"}})},
            "made from another model",
        ),
        ({"settings": {"templates": ("sung",)}}, "no template 'sung'"),
        ({"settings": {"openings": 1}}, "openings must be at least 2"),
        ({"settings": {"seeds": 0}}, "seeds must be at least 1"),
        ({"settings": {"intensities": (0.5,)}}, "about intensity 1 and strength 1"),
        ({"settings": {"intensities": (1.5, 1.0)}}, "at most at 1"),
        ({"settings": {"strengths": (0.0, 1.0)}}, "not 0, which is the unsteered model"),
        ({"settings": {"strengths": (1.0, math.nan)}}, "strengths are finite"),
        ({"settings": {"doses": (-1.0,)}}, "doses are nats per token above 0"),
        ({"settings": {"laws": ("rotate",)}}, "unknown law"),
    ],
)
def test_bad_input_is_told(change, message, run, tmp_path, settings, word_emotions, model):
    change = dict(change)
    if "vectors" in change:
        change["vectors"] = change["vectors"](word_emotions)
    changed = change.pop("settings", {})

    def run_changed():
        run(tmp_path, settings=replace(settings, **changed), **change)

    with pytest.raises(EmokernelError, match=message):
        run_changed()
    assert not has_replaced(find_decoder(model).owner)


def test_labels_can_be_mapped_where_a_judge_has_none_of_the_name(
    run, tmp_path, word_emotions, settings
):
    few = replace(settings, openings=2, doses=(), strengths=(1.0,), intensities=(1.0,), seeds=1)
    renamed = word_emotions.renamed({"joy": "bliss"})
    run(tmp_path, vectors=renamed, settings=few, labels_of={"bliss": "joy"})
    blissful = [t for t in texts_in(tmp_path) if t["name"] == "bliss" and t["mode"] == "vector"]
    assert blissful
    for text in blissful:
        read = WordJudge().probabilities([text["opening"] + text["answer"]])[0]
        assert text["intended"] == pytest.approx(
            {"words": read[1].item(), "second": read[3].item()}, abs=1e-4
        )


def test_one_opening_is_too_few(run, tmp_path, tokenizer):
    one = prompting(tokenizer, embedded=False, openings=["w1 w2"], coordinates=RUSSELL)
    with pytest.raises(EmokernelError, match="there are 1 questions, and intervals need two"):
        run(tmp_path, prompting=one)


def test_a_model_that_answers_nothing_is_told(run, tmp_path, model):
    ends, model.generation_config.eos_token_id = (
        model.generation_config.eos_token_id,
        list(range(96)),
    )
    try:
        with pytest.raises(EmokernelError, match=r"answers nothing in 10 of 10 texts.*max-new-tok"):
            run(tmp_path)
    finally:
        model.generation_config.eos_token_id = ends
    assert not has_replaced(find_decoder(model).owner)


def test_human_text_is_the_ceiling(run, tmp_path, settings):
    few = replace(settings, openings=2, doses=(), strengths=(1.0,), intensities=(1.0,), seeds=1)
    words = {name: f"w{number} w{number + 4}" for number, name in enumerate(NAMES)}
    texts, labels = [words[name] for name in NAMES] * 2, list(NAMES) * 2
    results = run(tmp_path, settings=few, second=None, human=("some texts", texts, labels))
    (ceiling,) = results.ceilings
    nearest = {state.label for state in ceiling.states}
    assert nearest == set(NAMES)
    assert ceiling.source == "some texts"
    best = mean(
        max(RUSSELL[name].valence * s.valence + RUSSELL[name].arousal * s.arousal for name in NAMES)
        for s in TWELVE_STATES
    )
    assert ceiling.cosine.mean == pytest.approx(best, abs=1e-6)
    neutral = ["w1"] * 40, ["neutral"] * 40
    many = ("more", [*texts, *neutral[0]], [*labels, *neutral[1]])
    again = run(tmp_path, settings=few, second=None, human=many)
    assert [each.least for each in again.ceilings] == [1]
    with pytest.raises(EmokernelError, match="none of the labels bar, foo has a direction"):
        run(tmp_path / "new", settings=few, second=None, human=("x", ["a", "b"], ["foo", "bar"]))
    assert not (tmp_path / "new").exists()
    assert any("of the ceiling" in goal.bound for goal in results.goals)


def test_law_and_mapping_can_be_chosen(run, tmp_path, settings):
    few = replace(settings, openings=2, doses=(), strengths=(1.0,), intensities=(1.0,), seeds=1)
    laws = {}
    for law, mapping in (("preserve", "wheel"), ("add", "wheel"), ("preserve", "axes")):
        folder = tmp_path / f"{law} {mapping}"
        results = run(folder, settings=few, second=None, law=law, mapping=mapping)
        about = results.about["vectors"]
        assert (about["law"], about["mapping"]) == (law, mapping)
        laws[law, mapping] = [t["answer"] for t in texts_in(folder) if "intensity" in t]
    assert laws["preserve", "wheel"] != laws["add", "wheel"]
    assert laws["preserve", "wheel"] != laws["preserve", "axes"]


def test_settings_have_sensible_defaults():
    usual = Settings()
    assert (usual.openings, usual.seeds) == (50, 3)
    assert {-1.0, 1.0, 4.0} <= set(usual.strengths)
    assert usual.laws == ("preserve", "add")


def test_vectors_that_do_nothing_are_told(run, tmp_path, word_emotions):
    zero = EmotionVectors(NAMES, word_emotions.tensor * 0, "block")
    with pytest.raises(EmokernelError, match="the vectors are zero in all of them"):
        run(tmp_path, vectors=zero)
