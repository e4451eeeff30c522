"""A judge that counts words, and what it reads."""

from __future__ import annotations

import pytest
from word_model import WordJudge

from emokernel.affect import Coordinates
from emokernel.lab.calibrate.setting import Prompts, Setting
from emokernel.lab.measure.sampling import Sampling


@pytest.fixture(scope="module")
def judge():
    return WordJudge()


@pytest.fixture(scope="module")
def setting(model, tokenizer, judge):
    prompts = Prompts(tuple(("", f"w{n} w{n + 1} w{n + 2}") for n in range(20, 36)), True)
    return Setting(model, tokenizer, judge, prompts, Sampling(8), Coordinates.named("russell"), {})
