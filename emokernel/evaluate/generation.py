"""Sampling answers to prompts: every emotion and condition in the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from emokernel.errors import EmokernelError
from emokernel.steering import Request, Steering
from emokernel.vectors.extraction.options import Sampling

_BATCH = 240
_DRAWS = 10


@dataclass(frozen=True)
class Job:
    """One text to write: behind what, and steered how.

    ``prefix`` and ``opening`` are what the model reads; the opening is the beginning of the text,
    such as a model without a chat template continues, the prefix is not part of it: a token that
    conditions the model, or a whole chat.
    """

    name: str
    condition: str
    opening: str
    request: Request | None = None
    prefix: str = ""


@dataclass(frozen=True)
class Written:
    """A job done under one seed; ``text`` is the opening and its continuation.

    ``redrawn`` counts the samples before it that were not accepted.
    """

    job: Job
    seed: int
    text: str
    redrawn: int = 0

    @property
    def pair(self) -> tuple[str, str]:
        """(opening, what the model wrote)."""
        return self.job.opening, self.text[len(self.job.opening) :]

    @property
    def read(self) -> tuple[str, str]:
        """(all that the model read, what it wrote)."""
        return self.job.prefix + self.job.opening, self.pair[1]


def write(
    model: Any,
    tokenizer: Any,
    steering: Steering,
    jobs: Sequence[Job],
    seed: int,
    *,
    sampling: Sampling,
    special_tokens: bool = True,
    accept: Callable[[str], bool] = lambda text: True,
    batch_size: int = _BATCH,
) -> Iterator[list[Written]]:
    """Write all ``jobs``, a mixed batch at a time; samples that are not accepted are redrawn.

    ``special_tokens``: whether the tokenizer adds its own; a chat template has put them into the
    prefix already. EmokernelError if a job gives nothing acceptable in `_DRAWS` draws.
    """
    for number, start in enumerate(range(0, len(jobs), batch_size)):
        batch = jobs[start : start + batch_size]
        done: dict[int, Written] = {}
        for draw in range(_DRAWS):
            rows = [row for row in range(len(batch)) if row not in done]
            if not rows:
                break
            torch.manual_seed((1000 * seed + number) * _DRAWS + draw)
            chosen = [batch[row] for row in rows]
            texts = _sample(model, tokenizer, steering, chosen, sampling, special_tokens)
            for row, text in zip(rows, texts, strict=True):
                if accept(text):
                    done[row] = Written(batch[row], seed, text, draw)
        if len(done) < len(batch):
            raise EmokernelError(f"the model wrote nothing acceptable in {_DRAWS} draws")
        yield [done[row] for row in range(len(batch))]


def _sample(
    model: Any,
    tokenizer: Any,
    steering: Steering,
    batch: Sequence[Job],
    sampling: Sampling,
    special_tokens: bool,
) -> list[str]:
    """One sample for each job."""
    encoded = tokenizer(
        [job.prefix + job.opening for job in batch], add_special_tokens=special_tokens
    )
    # Padded by hand: on the left, whatever the tokenizer does, and many have no pad token.
    pad = next(
        token
        for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        if token is not None
    )
    ids, mask = (
        pad_sequence([torch.tensor(row) for row in rows], True, value, padding_side="left")
        for rows, value in ((encoded["input_ids"], pad), (encoded["attention_mask"], 0))
    )
    device = model.get_input_embeddings().weight.device
    chosen = (
        {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        if sampling.temperature
        else {"do_sample": False}
    )
    with torch.no_grad(), steering.requests([job.request for job in batch]):
        output = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=sampling.max_new_tokens,
            top_k=0,
            pad_token_id=pad,
            **chosen,
        )
    continuations = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
    return [
        job.opening + continuation.rstrip()
        for job, continuation in zip(batch, continuations, strict=True)
    ]
