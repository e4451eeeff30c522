"""Texts as vectors of a sentence encoder: their cosine says how far two are about the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

# The weights of all-MiniLM-L6-v2, by their name in `emokernel.weights`.
ENCODER = "minilm"
_BATCH = 64


def load_encoder(folder: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The sentence encoder in a folder, in fp32 and in evaluation mode, and its tokenizer."""
    encoder = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return encoder.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def mean_of_tokens(encoder: PreTrainedModel, attention_mask: Tensor, **inputs: Tensor) -> Tensor:
    """The mean of the last hidden states over the tokens of each text, ``[n, d]``."""
    hidden = encoder(attention_mask=attention_mask, **inputs).last_hidden_state
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


class SentenceEncoder:
    """Unit vectors of texts: the mean over their tokens, as all-MiniLM-L6-v2 is meant to be used.

    ``name``: what reports call it.
    """

    def __init__(
        self, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> None:
        self._encoder, self._tokenizer, self.name = encoder, tokenizer, name

    @classmethod
    def fetched(cls, weights: str) -> SentenceEncoder:
        """By the name of weights that are fetched once, such as "minilm"."""
        from emokernel.weights import fetched, identity

        return cls(*load_encoder(fetched(weights)), identity(weights))

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """``[n, d]`` in fp64, rows of length 1; of 0 for a blank text."""
        rows = np.zeros((len(texts), self._encoder.config.hidden_size))
        written = [number for number, text in enumerate(texts) if text.strip()]
        written.sort(key=lambda number: len(texts[number]))
        for start in range(0, len(written), _BATCH):
            numbers = written[start : start + _BATCH]
            batch = self._tokenizer(
                [texts[number] for number in numbers], padding=True, truncation=True,
                max_length=self._encoder.config.max_position_embeddings, return_tensors="pt",
            ).to(self._encoder.device)  # fmt: skip
            rows[numbers] = normalize(mean_of_tokens(self._encoder, **batch)).double().cpu()
        return rows
