"""Topic adherence: whether a steered text is still about what it was asked for.

docs/evaluation.md defines it. Texts are read by themselves, without their opening or question, as
vectors: by the *unsteered* model (`HiddenStates`), or by a sentence encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.lab.evaluate.consistency import unit
from emokernel.lab.measure.encoding import batches, input_device
from emokernel.patch.decoder import evaluating, find_decoder

# The query and the seed of an answer.
Key = tuple[str, int]


class Topic:
    """The unsteered answers and the queries (openings, questions), as something reads them."""

    def __init__(
        self,
        read: Callable[[Sequence[str]], np.ndarray],
        answers: Mapping[Key, str],
        *,
        centred: bool = False,
    ) -> None:
        """``read``: texts to rows ``[n, d]``, of zeros for a text without a token. ``answers``:
        those of the unsteered model by query and seed. ``centred``: whether what all answers, or
        all queries, have in common is taken away.

        EmokernelError if all answers are empty.
        """
        if not any(answer.strip() for answer in answers.values()):
            raise EmokernelError(
                "the unsteered model answers nothing, so there is no topic to adhere to: let it"
                " write more, or ask something else"
            )
        self._read = read
        rows = read(list(answers.values()))
        self._mean = _mean(rows, centred)
        self._answers = dict(zip(answers, _less(rows, self._mean), strict=True))
        queries = list(dict.fromkeys(query for query, _ in answers))
        rows = read(queries)
        self._queries = dict(zip(queries, _less(rows, _mean(rows, centred)), strict=True))

    def adherence(
        self, answers: Sequence[str], keys: Sequence[Key]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(Similarity with the unsteered answer, with the query), both ``[n]``, -1..1.

        For each answer the query and the seed. Where either text is empty, it is 0.
        """
        rows = _less(self._read(answers), self._mean)
        plain = np.array([self._answers[key] for key in keys]).reshape(rows.shape)
        asked = np.array([self._queries[query] for query, _ in keys]).reshape(rows.shape)
        return (rows * plain).sum(1), (rows * asked).sum(1)

    def anchors(self) -> dict[str, float]:
        """Of all pairs of unsteered answers that are not empty, to read the similarities by.

        other_seed: mean similarity of two answers to one query; other_query: to two different ones.
        separation: how often the former is larger (area under the ROC curve, 0.5 is chance).
        EmokernelError unless there are both pairs of one query and pairs of different ones.
        """
        written = [(query, row) for (query, _), row in self._answers.items() if row.any()]
        queries, rows = np.array([query for query, _ in written]), np.stack([r for _, r in written])
        first, second = np.triu_indices(len(rows), 1)
        similar, same = (rows @ rows.T)[first, second], queries[first] == queries[second]
        if same.all() or not same.any():
            raise EmokernelError(
                "the similarity of unsteered answers needs two queries or more, and two seeds or"
                " more: give both"
            )
        return {
            "other_seed": float(similar[same].mean()),
            "other_query": float(similar[~same].mean()),
            "separation": float(need("sklearn.metrics").roc_auc_score(same, similar)),
        }


class HiddenStates:
    """Texts as the mean direction of the hidden states of their tokens, after two thirds of the
    blocks; each is divided by its length, so that no single token with a huge one counts alone.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, *, batch_size: int = 64) -> None:
        """The model must be unsteered here and later."""
        self._model, self._tokenizer, self._batch_size = model, tokenizer, batch_size
        self._decoder = find_decoder(model)
        self.layer = -(-2 * len(self._decoder.blocks) // 3) - 1

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """``[n, d]``, of 0 for a text without a token."""
        device = input_device(self._model)
        rows: dict[int, np.ndarray] = {}
        with evaluating(self._model):
            for numbers, batch in batches(self._tokenizer, texts, self._batch_size):
                output = self._decoder.owner(
                    input_ids=batch.ids.to(device),
                    attention_mask=batch.mask.to(device),
                    use_cache=False,
                    output_hidden_states=True,
                )
                hidden = output.hidden_states[self.layer + 1].float()
                directions = nn.functional.normalize(hidden, dim=-1)
                counted = batch.counted.to(hidden)[..., None]
                means = (directions * counted).sum(1) / counted.sum(1).clamp_min(1)
                rows |= zip(numbers, means.double().cpu().numpy(), strict=True)
        width = self._decoder.hidden_size
        return np.array([rows[number] for number in range(len(texts))]).reshape(-1, width)


def _mean(rows: np.ndarray, centred: bool) -> np.ndarray:
    """The mean of the rows that are not 0, for which nothing was read; 0 unless ``centred``."""
    read = rows.any(1, keepdims=True)
    return rows.mean(0, where=read) if centred and read.any() else np.zeros(rows.shape[1])


def _less(rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The rows less the mean, of length 1; those of zeros stay."""
    return unit(np.where(rows.any(1, keepdims=True), rows - mean, 0.0))
