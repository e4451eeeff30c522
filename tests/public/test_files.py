"""Files that an earlier version wrote: vectors are read, and runs that were cut off go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from public.stand_in import (
    LAYERS,
    OPENINGS,
    WIDTH,
    Counting,
    Watched,
    calibration,
    evaluation,
    exact_model,
    extraction,
    some_vectors,
)
from safetensors import safe_open

import emokernel
from emokernel import EmotionVectors, Request, patch
from emokernel.lab.report import write_report

FILES = Path(__file__).parent / "files"
TEXTS = 3 * len(OPENINGS)  # of the extraction: two emotions and the neutral answers


@pytest.fixture
def copied(tmp_path):
    """``copied(name)``: a copy of a file or folder, to go on with."""

    def copy(name: str) -> Path:
        source, target = FILES / name, tmp_path / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        return target

    return copy


def lines(journal: Path) -> dict[str, Any]:
    """{key: value} of the whole lines behind the first."""
    whole = journal.read_text("utf-8").split("\n")[1:-1]
    return {line["key"]: line["value"] for line in map(json.loads, whole)}


def whole_lines(journal: Path) -> bytes:
    content = journal.read_bytes()
    return content[: content.rindex(b"\n") + 1]


def names_in(value: Any) -> Any:
    """The names in JSON, of the first of every list."""
    if isinstance(value, dict):
        return {key: names_in(each) for key, each in value.items()}
    return [names_in(each) for each in value[:1]] if isinstance(value, list) else None


def lacks(now: Any, was: Any, path: str = "") -> list[str]:
    """The names of ``was`` that are missing now."""
    if isinstance(was, dict):
        missing = [f"{path}/{name}" for name in was if name not in now]
        common = [name for name in was if name in now]
        return missing + [each for n in common for each in lacks(now[n], was[n], f"{path}/{n}")]
    if isinstance(was, list) and was:
        return lacks(now[0], was[0], path) if now else [path]
    return []


@pytest.mark.parametrize("name", ["all.safetensors", "all.npz", "all.pt", "gguf"])
def test_vectors_are_read_with_all_that_they_had(name):
    vectors, was = EmotionVectors.load(FILES / "vectors" / name), some_vectors()
    assert vectors.names == ("joy", "anger")
    assert vectors.site == "attention"
    assert torch.equal(vectors.tensor, was.tensor)
    assert vectors.provenance == {"model": "some/model", "counts": {"joy": 3}}
    assert vectors.diagnostics == {"auc_neutral": [[0.5, 0.75]] * LAYERS}
    given = vectors.calibration
    assert (given.site, given.profile) == ("attention", (0.5, 0.0, 1.0))
    assert (given.law, given.dose, given.mapping) == ("preserve", "relative", "axes")
    assert given.strengths == {
        "preserve relative": {"joy": 1.5, "anger": 0.25}, "add absolute": {"joy": 3.0},
    }  # fmt: skip
    twelve = tuple(1 + number / 8 for number in range(12))
    assert given.circle == {"preserve relative axes": twelve}
    assert given.coordinates == "own"
    assert given.table == {"joy": (0.75, 0.5), "anger": (-0.5, 0.75)}
    assert given.record == {"judge": "some judge", "prompts": 40}
    assert vectors.digest() == was.digest()


@pytest.mark.parametrize("name", ["all.safetensors", "calibrated.safetensors"])
def test_a_file_that_is_written_again_says_the_same(name, tmp_path):
    """So earlier versions read what this one writes; the order in the header is anyone's."""
    EmotionVectors.load(FILES / "vectors" / name).save(tmp_path / name)
    with safe_open(FILES / "vectors" / name, "pt") as was, safe_open(tmp_path / name, "pt") as now:
        assert now.metadata() == was.metadata()
        assert set(now.keys()) == set(was.keys())
        for layer in was.keys():  # noqa: SIM118
            assert torch.equal(now.get_tensor(layer), was.get_tensor(layer))


@pytest.mark.parametrize(("name", "site"), [("json", "attention"), ("npy", "block")])
def test_numbers_are_read_where_a_format_has_no_more(name, site):
    vectors = EmotionVectors.load(FILES / "vectors" / name)
    assert vectors.names == ("anger", "joy")
    assert vectors.site == site
    for emotion in vectors.names:
        assert torch.equal(vectors[emotion], some_vectors()[emotion])


def test_what_a_calibration_chose_steers():
    """Its strengths are the weights that strength 1.0 stands for."""
    vectors = EmotionVectors.load(FILES / "vectors" / "calibrated.safetensors")
    given = vectors.calibration
    assert given.profile == (0.0, 0.0, 1.0)
    assert given.record["chosen"] == "site block, late layers"
    assert given.strengths["add absolute"]["joy"] == pytest.approx(8.28, abs=0.01)
    assert given.circle["add absolute wheel"][:2] == pytest.approx((1.59, 1.09), abs=0.01)
    model = exact_model()
    ids = torch.arange(20, 24)[None]
    steering = patch(model, vectors)
    assert (steering.defaults.law, steering.defaults.dose) == ("add", "absolute")
    with torch.no_grad(), steering.requests([Request("joy", 1.0)]):
        steered = model(ids).logits
    steering.unpatch()
    weight = given.strengths["add absolute"]["joy"]

    def add(_module: object, _given: object, output: torch.Tensor) -> torch.Tensor:
        return output + weight * vectors["joy"][2]

    last = model.model.layers[2].register_forward_hook(add)
    with torch.no_grad():
        by_hand = model(ids).logits
    last.remove()
    assert torch.allclose(steered, by_hand, atol=1e-4)


def test_a_calibration_of_the_earlier_search_is_refused_and_stays(copied):
    """Successive halving measures other texts than the exhaustive search did."""
    journal = copied("calibrate.jsonl")
    before = journal.read_bytes()
    with pytest.raises(emokernel.EmokernelError, match=r"begun with other settings.*--restart"):
        calibration(journal, Counting())
    assert journal.read_bytes() == before


def test_the_points_of_a_calibration_say_what_they_said(tmp_path):
    calibration(None, Counting()).save_rows(tmp_path / "frontier.jsonl")
    was, now = (
        set(json.loads((folder / "frontier.jsonl").read_text("utf-8").split("\n")[0]))
        for folder in (FILES, tmp_path)
    )
    assert was <= now


def test_an_evaluation_that_was_cut_off_goes_on(copied, tmp_path):
    folder = copied("evaluate")
    journal = folder / "generations.jsonl"
    held, before = lines(journal), whole_lines(journal)
    texts = [value for value in held.values() if isinstance(value, dict)]
    judge = Counting()
    results = evaluation(folder, judge)
    assert journal.read_bytes().startswith(before), "what was written stays"
    after = lines(journal)
    written = [value for value in after.values() if isinstance(value, dict)]
    measured_now = {key for key, value in after.items() if not isinstance(value, dict)} - {*held}
    assert all(key.startswith("topic adherence ") for key in measured_now), "doses were known"
    assert judge.texts == len(written) - len(texts) > 0
    assert results.about["texts"] == len(written)
    assert f"{len(texts)} texts were there from an earlier run" in " ".join(results.about["notes"])

    plain = [text for text in texts if text["mode"] == "unsteered"]
    points = [point for point in results.emotions if point.mode == "unsteered"]
    for point in points:
        read = [text["intended"]["words"][point.emotion] for text in plain]
        assert point.measures.intended["words"].mean == pytest.approx(mean(read))
    moved = {
        (point.law, point.emotion): point.divergence
        for point in results.emotions
        if (point.mode, point.by) == ("vector", "strength")
    }
    measured = {
        tuple(key.split(" | ")[1:3]): value
        for key, value in held.items()
        if key.startswith("divergence ")
    }
    assert moved == measured

    write_report(tmp_path / "report", results)
    figures = json.loads((tmp_path / "report" / "results.json").read_text("utf-8"))
    was = json.loads((FILES / "results.json").read_text("utf-8"))
    for states in (figures["consistency"], was["consistency"]):
        states[0]["states"][0].pop("tops")  # by label
    assert not lacks(names_in(figures), names_in(was))


def store_of_now(folder: Path) -> Path:
    """A store as these versions of torch and transformers would have begun it.

    It is kept under both, since the numbers depend on them.
    """
    journal = folder / "journal.jsonl"
    first, *rest = journal.read_text("utf-8").splitlines(keepends=True)
    settings = json.loads(first)["settings"]
    settings["versions"] = {
        "emokernel": emokernel.__version__, "torch": torch.__version__,
        "transformers": transformers.__version__,
    }  # fmt: skip
    journal.write_text(json.dumps({"settings": settings}) + "\n" + "".join(rest), "utf-8")
    return folder


def arrays(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``[layers, texts, d]`` and marks ``[texts]`` of a store."""
    rows = np.fromfile(folder / "rows.f32", "<f4").reshape(LAYERS, TEXTS, WIDTH)
    return rows, np.fromfile(folder / "done.u8", np.uint8)


def test_an_extraction_that_was_cut_off_goes_on(copied):
    folder = store_of_now(copied("extract"))
    before, done = arrays(folder)
    answers = (folder / "journal.jsonl").read_bytes()
    assert 0 < done.sum() < TEXTS
    watched: list[Watched] = []
    vectors = extraction(folder, lambda model: watched.append(Watched(model)))
    assert (folder / "journal.jsonl").read_bytes() == answers
    after, all_done = arrays(folder)
    assert all_done.all()
    assert np.array_equal(after[:, done == 1], before[:, done == 1])
    emotions, neutral = after[:, [*range(4), *range(8, 12)]], after[:, 4:8].mean(1)
    for number, emotion in enumerate(("w7", "w8")):
        expected = emotions[:, 4 * number : 4 * number + 4].mean(1) - neutral
        assert np.allclose(vectors[emotion].numpy(), expected, atol=1e-5)

    for name in ("rows.f32", "lengths.f32", "done.u8"):
        (folder / name).unlink()
    extraction(folder, lambda model: watched.append(Watched(model)))
    rest, whole = watched
    assert whole.generated == rest.generated == 0, "the answers are there"
    assert rest.read == whole.read - 2 > 0, "two batches had been read"


def test_a_store_that_has_half_of_its_answers_asks_for_the_others(copied):
    folder = store_of_now(copied("extract"))
    journal = folder / "journal.jsonl"
    for name in ("rows.f32", "lengths.f32", "done.u8"):
        (folder / name).unlink()
    kept = journal.read_text("utf-8").splitlines(keepends=True)
    journal.write_text("".join(kept[:5]) + '{"key": "torn', "utf-8")
    watched: list[Watched] = []
    extraction(folder, lambda model: watched.append(Watched(model)))
    assert watched[0].generated > 0
    answers = journal.read_text("utf-8").splitlines(keepends=True)
    assert answers[:5] == kept[:5]
    assert sorted(lines(journal), key=int) == [str(number) for number in range(TEXTS)]
