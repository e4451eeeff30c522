"""A small model that writes words, what it is asked, and two judges that count them."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from zlib import crc32

import numpy as np
import pytest
from word_model import NAMES, WordJudge, word_vectors

from emokernel.affect import Coordinates
from emokernel.lab.evaluate.consistency import unit
from emokernel.lab.evaluate.evaluation import GENERATIONS, evaluate
from emokernel.lab.evaluate.plan import Settings
from emokernel.lab.evaluate.prompting import prompting
from emokernel.lab.measure.sampling import Sampling

OPENINGS = tuple(f"w{n} w{n + 1} w{n + 2}" for n in range(20, 25))


class SecondJudge(WordJudge):
    """Knows one emotion less, and sees no surprise in words."""

    name = "second"
    labels = (*NAMES[:-1], "bliss", "neutral")

    def digest(self):
        return "second"


class Words:
    """A sentence encoder: the words of a text, counted, each one time more than it is there."""

    name = "words counted"

    def __call__(self, texts):
        rows = np.zeros((len(texts), 96))
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row[crc32(word.encode()) % 96] += 1
            row += bool(text.split())
        return unit(rows)


def same(one, other):
    """Whether two findings are the same but for rounding, which depends on who is in a batch."""
    if is_dataclass(one):
        return type(one) is type(other) and same(vars(one), vars(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return other == pytest.approx(one, rel=1e-4, abs=2e-4, nan_ok=True)
    return one == other


def texts_in(folder):
    lines = (folder / GENERATIONS).read_text("utf-8").splitlines()[1:]
    values = [json.loads(line)["value"] for line in lines]
    return [value for value in values if isinstance(value, dict)]


def the(rows, **wanted):
    """The one row with these attributes."""
    (found,) = (
        row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())
    )
    return found


@pytest.fixture(scope="module")
def word_emotions(model):
    """Vectors towards the words that the judges count for an emotion."""
    return word_vectors(model)


@pytest.fixture(scope="module")
def settings():
    return Settings(
        openings=5, seeds=2, intensities=(0.5, 1.0), strengths=(-1.0, 0.25, 0.5, 1.0, 2.0),
        doses=(0.2, 0.6), templates=("word",), sampling=Sampling(8), batch_size=64,
    )  # fmt: skip


@pytest.fixture(scope="module")
def asked(tokenizer):
    return prompting(
        tokenizer, embedded=False, openings=OPENINGS, coordinates=Coordinates.named("russell")
    )


@pytest.fixture
def run(model, tokenizer, word_emotions, asked, settings):
    """``run(folder, **changes)``: an evaluation without progress."""

    def run(folder, **changes):
        given = {"vectors": word_emotions, "judge": WordJudge(), "second": SecondJudge()}
        given |= {"prompting": asked, "settings": settings, "progress": False, **changes}
        vectors, asks = given.pop("vectors"), given.pop("prompting")
        return evaluate(model, tokenizer, vectors, asks, folder, **given)

    return run
