"""Fitting the linear network on hashed n-grams to the labels of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from emokernel.extras import need
from emokernel.lab.judges.features import bag
from emokernel.lab.judges.linear_judge import LinearNetwork


def fit(
    model: LinearNetwork,
    texts: Sequence[str],
    targets: Tensor,
    *,
    epochs: int = 2,
    lr: float = 0.02,
    batch: int = 256,
    seed: int = 0,
) -> None:
    """Train `model` on the distributions `targets` [n, labels]; it overfits within few epochs.

    Quick, for checks of the training data; `fit_regularised` is better.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    encoded = [model.encode(text) for text in texts]
    with torch.no_grad():
        model.bias.copy_(targets.mean(0).clamp_min(1e-6).log())
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(encoded), generator=generator).split(batch)
        for chosen in tqdm(order, desc=f"classifier epoch {epoch + 1}/{epochs}", unit=" steps"):
            logits = model([encoded[i] for i in chosen.tolist()])
            loss = F.cross_entropy(logits, targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


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
        full = bag(rows)
        starts = np.append(full.offsets.numpy(), len(full.buckets))
        matrix = sparse.csr_matrix(
            (full.weights.double().numpy(), full.buckets.numpy(), starts),
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


def distributions(emotions: Sequence[Sequence[str]], labels: Sequence[str]) -> Tensor:
    """Targets [n, labels]: equal shares for the labels of each text."""
    targets = torch.zeros(len(emotions), len(labels))
    for row, names in enumerate(emotions):
        for name in names:
            targets[row, labels.index(name)] = 1 / len(names)
    return targets
