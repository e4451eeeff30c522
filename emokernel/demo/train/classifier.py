"""A linear classifier on hashed n-grams: quick to fit, for checks of the training data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from emokernel.demo.features import Bag, bag, bucket, character_ngrams, tokens, word_ngrams

FeatureRows = list[tuple[list[int], list[int]]]


class LinearClassifier(nn.Module):
    """Logits [n, labels] from word and character n-grams."""

    def __init__(self, labels: int, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.words = nn.EmbeddingBag(buckets, labels, mode="sum")
        self.characters = nn.EmbeddingBag(buckets, labels, mode="sum")
        self.bias = nn.Parameter(torch.zeros(labels))
        nn.init.zeros_(self.words.weight)
        nn.init.zeros_(self.characters.weight)

    def features(self, texts: Sequence[str]) -> FeatureRows:
        """The word and the character buckets of each text."""
        rows = []
        for text in texts:
            words = tokens(text)
            pieces = [
                piece for word in words if word[0].isalpha() for piece in character_ngrams(word)
            ]
            rows.append(
                (
                    [bucket(feature, self.buckets) for feature in word_ngrams(words)],
                    [bucket(piece, self.buckets) for piece in pieces],
                )
            )
        return rows

    def forward(self, words: Bag, characters: Bag) -> Tensor:
        """Logits [n, labels] of the n texts in both bags."""
        return (
            self.bias
            + self.words(words.buckets, words.offsets, words.weights)
            + self.characters(characters.buckets, characters.offsets, characters.weights)
        )

    @torch.no_grad()
    def probabilities(self, rows: FeatureRows, batch: int = 1024) -> Tensor:
        """Softmax probabilities [n, labels]."""
        parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        return torch.cat([F.softmax(self(*bags(part)), dim=1) for part in parts])


def bags(rows: FeatureRows, dropout: float = 0.0) -> tuple[Bag, Bag]:
    """The bags of a batch; with dropout, that part of the features counts nothing."""

    def thinned(full: Bag) -> Bag:
        return Bag(full.buckets, full.offsets, F.dropout(full.weights, dropout))

    return thinned(bag([words for words, _ in rows])), thinned(bag([parts for _, parts in rows]))


def fit(
    model: LinearClassifier,
    texts: Sequence[str],
    targets: Tensor,
    *,
    epochs: int = 2,
    lr: float = 0.02,
    dropout: float = 0.3,
    batch: int = 256,
    seed: int = 0,
) -> None:
    """Train `model` on the distributions `targets` [n, labels]; it overfits within few epochs."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    rows = model.features(texts)
    with torch.no_grad():
        model.bias.copy_(targets.mean(0).clamp_min(1e-6).log())
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        order = torch.randperm(len(rows), generator=generator).split(batch)
        for chosen in tqdm(order, desc=f"classifier epoch {epoch + 1}/{epochs}", unit=" steps"):
            logits = model(*bags([rows[i] for i in chosen.tolist()], dropout))
            loss = F.cross_entropy(logits, targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def distributions(emotions: Sequence[Sequence[str]], labels: Sequence[str]) -> Tensor:
    """Targets [n, labels]: equal shares for the labels of each text."""
    targets = torch.zeros(len(emotions), len(labels))
    for row, names in enumerate(emotions):
        for name in names:
            targets[row, labels.index(name)] = 1 / len(names)
    return targets
