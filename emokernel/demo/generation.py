"""Sampling continuations of the openings: every emotion and condition in the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from emokernel.demo.clean import is_presentable
from emokernel.errors import EmokernelError
from emokernel.steering import Request, Steering

MAX_NEW_TOKENS = 28
_BATCH = 240
_DRAWS = 10


@dataclass(frozen=True)
class Job:
    """One text to write: the request that steers it, and a prefix token that conditions it."""

    name: str
    condition: str
    opening: str
    request: Request | None = None
    prefix: str = ""


@dataclass(frozen=True)
class Written:
    """A job done under one seed; ``text`` is the opening and its continuation.

    ``redrawn`` counts the samples before it that held a word of the list and were thrown away.
    """

    job: Job
    seed: int
    text: str
    redrawn: int = 0


def write(
    model: Any, tokenizer: Any, steering: Steering, jobs: Sequence[Job], seed: int
) -> Iterator[list[Written]]:
    """Write all ``jobs``, a mixed batch at a time; samples that are not presentable are redrawn.

    EmokernelError if a job gives nothing presentable in `_DRAWS` draws.
    """
    for number, start in enumerate(range(0, len(jobs), _BATCH)):
        batch = jobs[start : start + _BATCH]
        done: dict[int, Written] = {}
        for draw in range(_DRAWS):
            open_rows = [row for row in range(len(batch)) if row not in done]
            if not open_rows:
                break
            torch.manual_seed((1000 * seed + number) * _DRAWS + draw)
            texts = _sample(model, tokenizer, steering, [batch[row] for row in open_rows])
            for row, text in zip(open_rows, texts, strict=True):
                if is_presentable(text):
                    done[row] = Written(batch[row], seed, text, draw)
        if len(done) < len(batch):
            raise EmokernelError(f"the model wrote nothing presentable in {_DRAWS} draws")
        yield [done[row] for row in range(len(batch))]


def _sample(model: Any, tokenizer: Any, steering: Steering, batch: Sequence[Job]) -> list[str]:
    """One sample for each job: nucleus sampling at temperature 0.8."""
    encoded = tokenizer(
        [job.prefix + job.opening for job in batch], return_tensors="pt", padding=True
    )
    with torch.no_grad(), steering.requests([job.request for job in batch]):
        output = model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=True,
            temperature=0.8,
            top_p=0.9,
            top_k=0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    continuations = tokenizer.batch_decode(
        output[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return [
        job.opening + continuation.rstrip()
        for job, continuation in zip(batch, continuations, strict=True)
    ]
