"""Who hears emotions that the calibrating judge has no label for, and some that it hardly hears."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emokernel.extras import need
from emokernel.lab.judges import load_classifier
from smollm2 import texts

JUDGE = "embedded-calibration"


class Listener:
    """The mean of the calibrating judge and of a classifier that is fitted to the written answers.

    Its labels are those of the judge and the emotions that it lacks. Neither has seen a text that
    the evaluating judges were trained on.
    """

    name = "listener"
    multi_label = False

    def __init__(self) -> None:
        self._judge = load_classifier(JUDGE)
        self._fitted = _fitted()
        own = tuple(str(label) for label in self._fitted.classes_)
        self.labels = (*self._judge.labels, *(x for x in own if x not in self._judge.labels))
        self._columns = [self.labels.index(label) for label in own]

    def probabilities(self, given: Sequence[str]) -> Tensor:
        """Of each label for each text, fp32 ``[n, labels]``; those of a text sum to 1."""
        both = torch.zeros(len(given), len(self.labels))
        if given:
            both[:, : len(self._judge.labels)] = self._judge.probabilities(given)
            by_written = torch.from_numpy(self._fitted.predict_proba(list(given))).float()
            both[:, self._columns] += by_written
        return both / 2

    def digest(self) -> str:
        """Of the judge and of the answers that the other was fitted to."""
        return hashlib.sha256((self._judge.digest() + texts.digest()).encode()).hexdigest()


def _fitted() -> Any:
    """Words and pairs of words of the written answers, and which emotion they were written for."""
    text = need("sklearn.feature_extraction.text")
    pipeline = need("sklearn.pipeline").make_pipeline(
        text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        need("sklearn.linear_model").LogisticRegression(C=30, max_iter=2000),
    )
    labelled = [
        (name, answer)
        for name in (*texts.emotions(), texts.NEUTRAL)
        for answer in texts.written(name).values()
    ]
    return pipeline.fit([answer for _, answer in labelled], [name for name, _ in labelled])
