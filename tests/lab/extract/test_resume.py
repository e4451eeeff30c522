"""An interrupted extraction goes on where it was, to the very same vectors."""

from __future__ import annotations

import random
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from lab.extract.conftest import words_tokenizer

from emokernel import EmokernelError, EmotionVectors
from emokernel.lab.extract import Sampling, extract_answers
from emokernel.lab.extract.prompts import Conditioning
from emokernel.lab.extract.queries import Queries
from emokernel.lab.extract.recording import Recorder

WORDS = "sun rain cat dog runs sleeps well badly today now here happy cross I am".split()
QUIET = {"progress": False, "batch_tokens": 30}


def some_texts(seed, count=20):
    chooser = random.Random(seed)
    return [" ".join(chooser.choices(WORDS, k=chooser.randint(1, 9))) for _ in range(count)]


def from_texts(model, tokenizer, **options):
    emotional = {"joy": some_texts(1), "anger": some_texts(2)}
    options = {**QUIET, **options}
    return EmotionVectors.extract(model, tokenizer, emotional, some_texts(3), **options)


def from_answers(model, tokenizer, **options):
    queries = Queries([(None, text) for text in dict.fromkeys(some_texts(4))])
    conditioning = Conditioning.prefix("I am {emotion} {query}", "I am here {query}")
    return extract_answers(
        model, tokenizer, queries, conditioning, emotions=["happy", "cross"],
        sampling=Sampling(max_new_tokens=4), **{**QUIET, **options},
    )  # fmt: skip


class Watched:
    """Counts the batches that the decoder begins, read or written, and fails at one of them."""

    def __init__(self, model, fail_at=None):
        self.calls, self._fail_at, self._forward = 0, fail_at, model.model.forward
        model.model.forward = self._call

    def _call(self, *args, past_key_values=None, **kwargs):
        if past_key_values is None:
            self.calls += 1
            if self.calls - 1 == self._fail_at:
                raise InterruptedError("unplugged")
        return self._forward(*args, past_key_values=past_key_values, **kwargs)


@pytest.fixture(scope="module")
def whole(tiny):
    """``whole(extracted)``: what an uninterrupted run gives, and its calls."""

    @cache
    def run(extracted):
        model = tiny()
        watched = Watched(model)
        return extracted(model, words_tokenizer()), watched.calls

    return run


@pytest.mark.parametrize("extracted", [from_texts, from_answers])
@pytest.mark.parametrize("when", [0.0, 0.2, 0.5, 0.99])
def test_nothing_is_computed_twice(extracted, when, tiny, tokenizer, tmp_path, whole):
    expected, calls = whole(extracted)
    stop = int(when * calls)
    assert calls > 5

    model = tiny()
    first = Watched(model, fail_at=stop)
    with pytest.raises(InterruptedError, match="unplugged"):
        extracted(model, tokenizer, resume=tmp_path / "partial")
    assert first.calls == stop + 1
    model = tiny()
    second = Watched(model)
    found = extracted(model, tokenizer, resume=tmp_path / "partial")
    assert stop + second.calls == calls
    assert torch.equal(found.tensor, expected.tensor)
    assert found.diagnostics == expected.diagnostics

    third = tiny()
    watched_again = Watched(third)
    again = extracted(third, tokenizer, resume=tmp_path / "partial", method="pca")
    assert watched_again.calls == 0
    assert again.provenance["method"] == "pca"
    assert not torch.equal(again.tensor, expected.tensor)


@pytest.fixture(scope="module")
def begun(tiny, tmp_path_factory):
    """A folder of an extraction from texts."""
    folder = tmp_path_factory.mktemp("begun")
    from_texts(tiny(), words_tokenizer(), resume=folder)
    return folder


@pytest.mark.parametrize("lost", ["marks", "rows", "lengths", "done"])
def test_what_a_crash_left_unmarked_is_read_again(lost, tiny, tokenizer, tmp_path):
    expected = from_texts(tiny(), tokenizer, resume=tmp_path)
    if lost == "marks":  # of rows that are half written
        marks = np.memmap(tmp_path / "done.u8", np.uint8, "r+")
        rows = np.memmap(tmp_path / "rows.f32", np.float32, "r+").reshape(3, len(marks), -1)
        marks[::3] = 0
        rows[1, ::3] = np.nan
    else:
        next(tmp_path.glob(f"{lost}.*")).unlink()
    found = from_texts(tiny(), tokenizer, resume=tmp_path)
    assert torch.equal(found.tensor, expected.tensor)
    assert found.diagnostics == expected.diagnostics


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"site": "attention"}, r'site \("block", now "attention"\)'),
        ({"tokens": "last"}, r'rows \("mean", now "last"\)'),
        ({"layers": [0, 1]}, r"layers \(null, now \[0, 1\]\)"),
        ({"max_length": 4}, "texts"),
        ({"batch_tokens": 31}, "batch_tokens"),
        ({"model_id": "another"}, "model "),
    ],
)
def test_other_settings_are_refused_by_name(change, named, tiny, tokenizer, tmp_path, begun):
    shutil.copytree(begun, tmp_path / "partial")
    with pytest.raises(EmokernelError, match=f"other settings: {named}"):
        from_texts(tiny(), tokenizer, resume=tmp_path / "partial", **change)
    from_texts(tiny(), tokenizer, resume=tmp_path / "partial", restart=True, **change)


def test_another_model_is_refused(tiny, tokenizer, begun):
    other = tiny()
    other.model.layers[1].mlp.up_proj.weight.data *= 2
    with pytest.raises(EmokernelError, match="other settings: fingerprint"):
        from_texts(other, tokenizer, resume=begun)


def test_another_seed_asks_again(tiny, tokenizer, tmp_path):
    from_answers(tiny(), tokenizer, resume=tmp_path / "partial")
    with pytest.raises(EmokernelError, match=r"seed \(0, now 1\)"):
        from_answers(tiny(), tokenizer, resume=tmp_path / "partial", seed=1)


def test_no_more_is_in_hand_than_a_batch(tiny, tokenizer, monkeypatch):
    seen = []
    read = Recorder.read

    def watched(self, samples):
        seen.append(sum(len(sample.ids) for sample in samples))
        return read(self, samples)

    monkeypatch.setattr(Recorder, "read", watched)
    from_texts(tiny(), tokenizer)
    assert len(seen) > 5
    assert max(seen) <= 30
