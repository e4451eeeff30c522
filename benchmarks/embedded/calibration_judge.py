"""Fit the judge of calibration on the language half of the GoEmotions training comments.

    python -m embedded.calibration_judge --data DIR [--figures-only]

Neither its text nor its kind of network is that of the evaluating judge, and no probability of that
judge is used: what is calibrated with this one can be evaluated with that one. The comments are
taken as they were written: features are hashed, so no word of them is stored. Dev chooses the
penalty, the temperature and the threshold; test gives the final figures only.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from embedded.corpus import emotion_labels, heldout_examples, training_half
from embedded.judge import (
    best_temperature,
    figures_or_train,
    save_with_figures,
    texts_and_targets,
)
from emokernel.extras import need
from emokernel.lab.judges.judge import CalibrationJudge, LinearNetwork, bag

# Rows of each of two tables.
BUCKETS = 1 << 15
# The penalties that are tried, see `fit_regularised`.
PENALTIES = tuple(itertools.product((0.4, 0.5, 0.6), (0.4, 0.5)))


def fit_regularised(
    model: LinearNetwork, texts: Sequence[str], targets: Tensor, *, c: float, rarity: float
) -> None:
    """Set `model` to the multinomial logistic regression on `targets` [n, labels].

    The optimum of a convex loss, so nothing here is random. `c` is scikit-learn's C, one over the
    strength of the L2 penalty. The penalty spares rare features: each is multiplied by
    log(1 + n / (1 + texts that have it)) to the power of `rarity` before the fit, and the factor
    goes into the tables afterwards. Raises ValueError if a label has no text.
    """
    sparse = need("scipy.sparse")
    if not (targets > 0).any(0).all():
        raise ValueError("every label needs a text that has it: take more text or fewer labels")
    features, factors = [], []
    for rows in zip(*(model.encode(text) for text in texts), strict=True):
        buckets, offsets, weights = (each.numpy() for each in bag(rows))
        matrix = sparse.csr_matrix(
            (weights.astype(np.float64), buckets, np.append(offsets, len(buckets))),
            shape=(len(texts), model.buckets),
        )
        matrix.sum_duplicates()
        factor = np.log1p(len(texts) / (1 + matrix.getnnz(axis=0))) ** rarity
        features.append(matrix @ sparse.diags(factor))
        factors.append(factor)
    # A text with several labels is one row for each of them, with their shares as weights.
    row, label = targets.nonzero(as_tuple=True)
    regression = need("sklearn.linear_model").LogisticRegression(C=c, max_iter=500, tol=1e-3)
    regression.fit(
        sparse.hstack(features).tocsr()[row.numpy()],
        label.numpy(),
        sample_weight=targets[row, label].double().numpy(),
    )
    words, characters = np.split(regression.coef_ * np.concatenate(factors), 2, axis=1)
    with torch.no_grad():
        model.words.weight.copy_(torch.from_numpy(words.T))
        model.characters.weight.copy_(torch.from_numpy(characters.T))
        model.bias.copy_(torch.from_numpy(regression.intercept_))
    model.eval()


def train(data: Path, out: Path) -> None:
    """Fit with each penalty and save the judge with the least log loss on dev."""
    need("sklearn")
    started = time.monotonic()
    labels = emotion_labels(data)
    texts, targets = texts_and_targets(training_half(data, "language"), labels)
    dev_texts, dev_targets = texts_and_targets(heldout_examples(data, "dev"), labels)
    least, chosen, penalty = float("inf"), None, {}
    for c, rarity in tqdm(PENALTIES, desc="penalties", unit=" fits"):
        network = LinearNetwork(len(labels), BUCKETS)
        fit_regularised(network, texts, targets, c=c, rarity=rarity)
        probabilities = CalibrationJudge([network], labels).probabilities(dev_texts)
        loss, temperature = best_temperature(probabilities, dev_targets)
        tqdm.write(f"c {c}, rarity {rarity}: dev log loss {loss:.4f} at T = {temperature:.2f}")
        if loss < least:
            least, chosen, penalty = loss, network, {"c": c, "rarity": rarity}
    save_with_figures(
        CalibrationJudge([chosen], labels),
        data,
        out,
        penalty=penalty,
        training_rows=len(texts),
        training_seconds=round(time.monotonic() - started),
    )


if __name__ == "__main__":
    figures_or_train(__doc__, CalibrationJudge, train)
