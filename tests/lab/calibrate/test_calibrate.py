"""The whole calibration of a small model, whose judge counts words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from tqdm import tqdm
from word_model import NAMES
from word_model import word_vectors as make_vectors

from emokernel import Affect, EmokernelError, EmotionVectors, Request
from emokernel.lab.calibrate import Bounds, Prompts, calibrate, calibrator, measuring
from emokernel.lab.calibrate.calibrator import CANDIDATES, CIRCLE, FRONTIER, LAWS
from emokernel.lab.calibrate.measuring import Dose, Measuring, Steered
from emokernel.lab.measure.encoding import encoded
from emokernel.lab.measure.equal_doses import Ask, divergences
from emokernel.lab.measure.fingerprint import fingerprint
from emokernel.lab.measure.fluency import distinct_n, perplexity
from emokernel.lab.measure.journal import Journal
from emokernel.lab.measure.sampling import Sampling
from emokernel.lab.report.frontier_plot import plot_frontier

PROMPTS = Prompts(tuple(("", f"w{n} w{n + 1} w{n + 2}") for n in range(20, 26)), True)
OTHER = {"model_type": "gpt2", "layers": 12}
OTHER_PROVENANCE = {"fingerprint": OTHER, "model": "other/one"}
OPTIONS = {
    "prompts": PROMPTS,
    "sampling": Sampling(8),
    "bounds": Bounds(perplexity=20.0, distinct=0.3),
    "laws": ["preserve", "add"],
    "doses": ["absolute"],
    "sites": ["block"],
    "effort": 0.3,
    "progress": False,
}


@pytest.fixture
def quick(monkeypatch):
    """All layers of every site alone."""
    every = calibrator.candidates
    monkeypatch.setattr(
        calibrator,
        "candidates",
        lambda *given: [each for each in every(*given) if each.name.endswith("all layers")],
    )


@pytest.fixture(scope="module")
def word_vectors(model):
    return make_vectors(model)


@pytest.fixture(scope="module")
def calibrated(model, tokenizer, judge, word_vectors):
    return calibrate(model, tokenizer, word_vectors, judge=judge, **OPTIONS)


@pytest.fixture
def measured(setting, word_vectors):
    """``measured(journal)``: a `Measuring`, and how it is steered; closed after the test."""
    made = []

    def measuring(journal=None):
        made.append(Measuring(setting, journal or Journal(None, {}), tqdm(disable=True)))
        return made[-1]

    yield measuring
    for each in made:
        each.close()


def test_a_point_is_what_its_texts_say(setting, word_vectors, measured, patched):
    steered, landscape = Steered("words", word_vectors), measured()
    asks = [Ask("joy", "joy", "add", "absolute"), Ask("90", Affect(0, 1), "preserve", "absolute")]
    landscape.ladders(steered, dict.fromkeys(asks, (0.2, 0.5)))
    numbers = (1, 2, 5)
    found = landscape.read(steered, [Dose(ask, 3.0, numbers) for ask in asks])
    plain = landscape.plain(asks[0], numbers)
    point = found[0].point(plain, 3.0, 0.5)
    assert found[0].prompts == plain.prompts == numbers
    openings = [setting.prompts.pairs[number][1] for number in numbers]
    texts = [o + text for o, text in zip(openings, found[0].texts, strict=True)]
    joy = setting.judge.probabilities(texts)[:, 1]
    assert found[0].effects == pytest.approx(joy.tolist())
    landscape.close()
    pairs, plain_pairs = (
        list(zip(openings, readings.texts, strict=True)) for readings in (found[0], plain)
    )
    loss = perplexity(setting.model, setting.tokenizer, pairs)
    expected = loss / perplexity(setting.model, setting.tokenizer, plain_pairs)
    assert point.perplexity == pytest.approx(expected, rel=1e-4)
    distinct = distinct_n([text for _, text in pairs]) / distinct_n([t for _, t in plain_pairs])
    assert point.distinct == pytest.approx(distinct)
    assert point.effect > plain.effect + 0.1
    assert (point.strength, point.divergence, point.texts) == (3.0, 0.5, 3)
    assert -1 <= found[1].effect <= 1


def test_unsteered_texts_are_written_once_and_nothing_that_a_journal_knows(
    setting, word_vectors, measured, tmp_path, monkeypatch
):
    written, write = [], measuring.write

    def counted(model, tokenizer, steering, jobs, *given, **options):
        written.extend(job.request for job in jobs)
        return write(model, tokenizer, steering, jobs, *given, **options)

    monkeypatch.setattr(measuring, "write", counted)
    joy = Ask("joy", "joy", "add", "absolute")
    steered = [Steered(name, word_vectors) for name in ("one", "other")]
    results = []
    for _ in range(2):
        landscape = measured(Journal(tmp_path / "journal", {}))
        for each in steered:
            ladder = landscape.ladders(each, {joy: (0.2, 0.5)})[joy]
            results.append((ladder, landscape.read(each, [Dose(joy, 3.0, (0, 1))])))
        results.append((landscape.written, landscape.read_again))
        landscape.close()
    assert results[:3] == results[3:]
    assert written.count(None) == len(setting.prompts.pairs)
    assert len(written) == len(setting.prompts.pairs) + 4


def test_all_tokens_are_counted(setting, word_vectors, measured):
    """Each context is read twice: to write behind it, and to read what was written."""
    joy = Ask("joy", "joy", "add", "absolute")
    landscape, steered = measured(), Steered("words", word_vectors)
    ladder = landscape.ladders(steered, {joy: (0.2, 0.5)})[joy]
    prompts = range(len(setting.prompts.pairs))
    plain = landscape.plain(joy, prompts)
    assert landscape.written == sum(plain.tokens)
    of_ladder = landscape.read_again - 2 * 3 * len(prompts) - landscape.written
    assert of_ladder >= len(ladder.rungs) * 2 * 4
    before = landscape.written, landscape.read_again
    (found,) = landscape.read(steered, [Dose(joy, 3.0, (0, 1))])
    assert landscape.written - before[0] == sum(found.tokens)
    assert landscape.read_again - before[1] == sum(found.tokens) + 2 * 3 * 2


def test_strength_one_strengthens_every_emotion_within_the_bounds(calibrated, model, judge):
    calibration = calibrated.vectors.calibration
    key = f"{calibration.law} {calibration.dose}"
    assert set(calibration.strengths) == {"preserve absolute", "add absolute"}
    for name in NAMES:
        point = calibrated.chosen[key][name]
        assert calibration.strengths[key][name] == point.strength > 0
        assert point.effect > 0.4, "a quarter of the words would be chance"
        assert point.perplexity <= 20.0 + 1e-6
    stages = {row.stage for row in calibrated.rows}
    assert stages == {CANDIDATES, FRONTIER, LAWS, CIRCLE}
    assert calibration.record["chosen"] == next(iter(calibration.record["candidates"]))
    assert calibration.record["tokens"]["written"] > 0
    assert calibration.record["judge"] == judge.name


def test_equal_strength_is_equal_dose(calibrated, model, patched, tokenizer):
    """At the divergences of the choice, patched with the calibration and strength 1.0."""
    calibration = calibrated.vectors.calibration
    texts = encoded(tokenizer, [(o, " w40 w41 w42") for _, o in PROMPTS.pairs])
    steering = patched(calibrated.vectors)
    found = divergences(model, steering, texts, [Request(name) for name in NAMES]).tolist()
    of = calibrated.chosen[f"{calibration.law} {calibration.dose}"]
    assert found == pytest.approx([of[name].divergence for name in NAMES], rel=0.6)


def test_all_twelve_states_have_factors(calibrated):
    calibration = calibrated.vectors.calibration
    key = f"{calibration.law} {calibration.dose} {calibration.mapping}"
    assert len(calibration.circle[key]) == 12
    assert calibration.mapping in ("wheel", "axes")
    assert [name.split()[0] for name in calibrated.chosen[key]] == [str(30 * n) for n in range(12)]


def test_an_interrupted_run_goes_on_without_doing_anything_twice(
    calibrated, model, tokenizer, judge, word_vectors, tmp_path, monkeypatch
):
    options = {**OPTIONS, "journal": tmp_path / "journal"}
    measure, calls = Measuring._measure, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(Measuring, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate(model, tokenizer, word_vectors, judge=judge, **options)
    again = calibrate(model, tokenizer, word_vectors, judge=judge, **options)
    assert again.vectors.calibration == calibrated.vectors.calibration
    assert again.rows == calibrated.rows
    chunks = len(calls)
    calibrate(model, tokenizer, word_vectors, judge=judge, **options)
    assert len(calls) == chunks, "a finished journal has it all"
    with pytest.raises(EmokernelError, match="begun with other settings: bounds"):
        calibrate(model, tokenizer, word_vectors, judge=judge, **{**options, "bounds": Bounds(3.0)})


def test_the_model_is_given_back_unpatched(quick, model, tokenizer, judge, word_vectors, prompts):
    with torch.no_grad():
        before = model(prompts).logits
        calibrate(model, tokenizer, word_vectors, judge=judge, **OPTIONS)
        assert torch.equal(model(prompts).logits, before)


def test_a_patched_model_is_refused(model, patched, tokenizer, judge, word_vectors):
    patched(word_vectors)
    with pytest.raises(EmokernelError, match=r"call unpatch\(\)"):
        calibrate(model, tokenizer, word_vectors, judge=judge, **OPTIONS)


def test_a_site_that_the_model_does_not_have_is_left_out(quick, tiny, tokenizer, judge, capsys):
    model = tiny("phi")  # parallel branches: no place behind the attention alone
    vectors = EmotionVectors.from_tensors({"joy": torch.randn(3, 64)}, site="block")
    options = {**OPTIONS, "laws": ["add"], "bounds": Bounds(1000.0, 0.01)}
    found = calibrate(model, tokenizer, vectors, judge=judge, **{**options, "sites": None})
    assert found.vectors.calibration.site == "block"
    assert "site attention, all layers: left out" in capsys.readouterr().out
    with pytest.raises(EmokernelError, match='use site="block"'):
        calibrate(model, tokenizer, vectors, judge=judge, **{**options, "sites": ["attention"]})


def test_emotions_without_coordinates_have_strengths_but_no_circle(
    quick, model, tokenizer, judge, word_vectors
):
    unknown = word_vectors.renamed({name: f"{name}-like" for name in NAMES})
    labels = {f"{name}-like": name for name in NAMES}
    found = calibrate(model, tokenizer, unknown, judge=judge, labels=labels, **OPTIONS)
    assert not found.vectors.calibration.circle
    assert set(found.vectors.calibration.strengths["add absolute"]) == set(unknown.names)


def test_states_are_judged_by_the_emotions_that_labels_are_mapped_to(
    quick, model, tokenizer, judge, word_vectors
):
    class Renamed(type(judge)):
        name, labels = "renamed", ("l0", "l1", "l2", "l3", "l4")

    labels = {name: f"l{number}" for number, name in enumerate(NAMES)}
    options = {**OPTIONS, "laws": ["add"]}
    found = calibrate(model, tokenizer, word_vectors, judge=Renamed(), labels=labels, **options)
    plain = calibrate(model, tokenizer, word_vectors, judge=judge, **options)
    assert found.vectors.calibration.circle == plain.vectors.calibration.circle
    assert any(found.vectors.calibration.circle["add absolute wheel"])


def test_states_without_any_dose_are_told_and_do_not_spoil_the_others(
    quick, model, tokenizer, judge, word_vectors
):
    """An emotion whose vector is that of another one is weakened by every dose."""
    wrong = {name: word_vectors["joy"] for name in ("anger", "joy")}
    vectors = EmotionVectors.from_tensors(wrong, site="block")
    found = calibrate(model, tokenizer, vectors, judge=judge, **{**OPTIONS, "effort": 2.0})
    calibration = found.vectors.calibration
    key = f"{calibration.law} {calibration.dose}"
    assert calibration.strengths[key]["anger"] == 0
    assert calibration.strengths[key]["joy"] > 0
    assert "No dose within the bounds strengthens anger" in found.summary()
    wheel = calibration.circle[f"{key} wheel"]
    assert wheel[4] == 0, "at 120 degrees there is anger, which has no dose, and joy points away"
    assert wheel[0] > 0, "0 degrees is nearest to joy"


def test_a_model_that_writes_next_to_nothing_is_told(model, tokenizer, judge, word_vectors):
    options = {**OPTIONS, "sampling": Sampling(1)}
    with pytest.raises(EmokernelError, match="not three words in a row"):
        calibrate(model, tokenizer, word_vectors, judge=judge, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": lambda v: [v, v.select(["joy"])]}, "the files hold different emotions"),
        ({"vectors": lambda v: []}, "no vectors given"),
        ({"vectors": lambda v: v.renamed({"joy": "bliss"})}, "say which of them count for 'bliss'"),
        (
            {
                "vectors": lambda v: replace(
                    v, provenance={"fingerprint": OTHER, "model": "other/one"}
                )
            },
            r"made from another model \(other/one\)",
        ),
        ({"coordinates": "nobody"}, "no built-in table of coordinates 'nobody'"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    change, message, model, tokenizer, judge, word_vectors
):
    options = {**OPTIONS, **change}
    vectors = options.pop("vectors", lambda v: v)(word_vectors)
    with pytest.raises(EmokernelError, match=message):
        calibrate(model, tokenizer, vectors, judge=judge, **options)


def test_vectors_of_this_model_are_known_and_others_can_be_allowed(
    quick, model, tokenizer, judge, word_vectors
):
    options = {**OPTIONS, "laws": ["add"]}
    own = replace(word_vectors, provenance={"fingerprint": fingerprint(model)})
    assert calibrate(model, tokenizer, own, judge=judge, **options).vectors.calibration
    other = replace(word_vectors, provenance=OTHER_PROVENANCE)
    found = calibrate(model, tokenizer, other, judge=judge, other_model=True, **options)
    assert found.vectors.calibration


def test_rows_summary_and_picture(calibrated, tmp_path):
    calibrated.save_rows(tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == len(calibrated.rows)
    assert {"stage", "name", "law", "dose", "strength", "divergence", "effect"} <= set(rows[0])
    shown = calibrated.summary()
    assert all(name in shown for name in (*NAMES, calibrated.vectors.calibration.law))
    plot_frontier(tmp_path / "frontier.png", calibrated)
    content = (tmp_path / "frontier.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 20_000
