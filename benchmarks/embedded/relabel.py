"""Give each line the emotions that it shows by itself.

A subtitle torn out of its film, "Open the door!", is no longer the anger that XED's annotators saw
there, and a sentence cut out of a longer comment may not carry the comment's emotion. A classifier
fitted to the language half of GoEmotions, whose comments were labelled as they stand, decides for
those lines; of a whole comment it only withdraws labels that it finds far from the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from emokernel.lab.judges.linear_judge import CalibrationJudge, LinearNetwork

# Of the classifier, which overfits within few epochs.
_EPOCHS, _RATE, _BATCH = 2, 0.02, 256
# The least probability at which a line without labels takes the most probable one. Neutral is
# what the classifier says of most lines that it knows nothing about.
_TAKEN, _TAKEN_NEUTRAL = 0.25, 0.5
# The least probability at which a comment keeps a label of its own.
_KEPT = 0.1


class Example(NamedTuple):
    """A line of text and the GoEmotions names of its emotions (maybe none)."""

    text: str
    emotions: tuple[str, ...]


def distributions(emotions: Sequence[Sequence[str]], labels: Sequence[str]) -> Tensor:
    """Targets [n, labels]: equal shares for the labels of each text."""
    targets = torch.zeros(len(emotions), len(labels))
    for row, names in enumerate(emotions):
        for name in names:
            targets[row, labels.index(name)] = 1 / len(names)
    return targets


def relabel(
    lines: Sequence[Example], reference: Sequence[Example], labels: Sequence[str]
) -> list[Example]:
    """`lines` with the emotions that a classifier fitted to `reference` finds in their text.

    A line with emotions keeps those of at least `_KEPT` probability; one without takes the most
    probable label if it is probable enough, and stays without otherwise.
    """
    targets = distributions([example.emotions for example in reference], labels)
    model = LinearNetwork(len(labels), buckets=1 << 16, dropout=0.3)
    _fit(model, [example.text for example in reference], targets)
    probabilities = CalibrationJudge([model], labels).probabilities([line.text for line in lines])

    def emotions(line: Example, row: Sequence[float]) -> tuple[str, ...]:
        if line.emotions:
            return tuple(name for name in line.emotions if row[labels.index(name)] >= _KEPT)
        best = max(range(len(labels)), key=row.__getitem__)
        least = _TAKEN_NEUTRAL if labels[best] == "neutral" else _TAKEN
        return (labels[best],) if row[best] >= least else ()

    return [
        Example(line.text, emotions(line, row))
        for line, row in zip(lines, probabilities.tolist(), strict=True)
    ]


def _fit(model: LinearNetwork, texts: Sequence[str], targets: Tensor) -> None:
    """Train `model` on the distributions `targets` [n, labels]."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    encoded = [model.encode(text) for text in texts]
    with torch.no_grad():
        model.bias.copy_(targets.mean(0).clamp_min(1e-6).log())
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)
    model.train()
    for epoch in range(1, _EPOCHS + 1):
        order = torch.randperm(len(encoded), generator=generator).split(_BATCH)
        for chosen in tqdm(order, desc=f"classifier epoch {epoch}/{_EPOCHS}", unit=" steps"):
            logits = model([encoded[i] for i in chosen.tolist()])
            loss = F.cross_entropy(logits, targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
