"""Sampling answers to prompts: every emotion and condition in the same batches."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import EmokernelError
from emokernel.lab.measure.sampling import Sampling, sample
from emokernel.requests import Request
from emokernel.steering import Steering

_BATCH = 240
_DRAWS = 30


@dataclass(frozen=True)
class Job:
    """One text to write: behind what, and steered how.

    ``prefix`` and ``opening`` are what the model reads; the opening is the beginning of the text,
    such as a model without a chat template continues, the prefix is not part of it: a token that
    conditions the model, or a whole chat. Jobs of the same ``query``, what the model reads unless
    given, have the same random numbers under a seed.
    """

    opening: str
    request: Request | None = None
    prefix: str = ""
    query: str = ""

    def seed(self, seed: int, draw: int) -> tuple[int, int, int]:
        """Where the random numbers of a sample come from, whatever is asked for."""
        return seed, zlib.crc32((self.query or self.prefix + self.opening).encode()), draw


@dataclass(frozen=True)
class Written:
    """A job done under one seed; ``text`` is the opening and its continuation.

    ``redrawn`` counts the samples before it that were not accepted, ``cut`` says whether it was as
    long as a text may be.
    """

    job: Job
    seed: int
    text: str
    redrawn: int = 0
    cut: bool = False

    @property
    def pair(self) -> tuple[str, str]:
        """(opening, what the model wrote)."""
        return self.job.opening, self.text[len(self.job.opening) :]

    @property
    def read(self) -> tuple[str, str]:
        """(all that the model read, what it wrote)."""
        return self.job.prefix + self.job.opening, self.pair[1]


def write(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    steering: Steering,
    jobs: Sequence[Job],
    seed: int | Sequence[int],
    *,
    sampling: Sampling,
    special_tokens: bool = True,
    accept: Callable[[str], bool] = lambda text: True,
    batch_size: int = _BATCH,
) -> Iterator[list[Written]]:
    """Write all ``jobs``, a mixed batch at a time; samples that are not accepted are redrawn.

    ``seed``: of all jobs, or of each; what is asked for under several seeds in one batch is read
    once. A batch is padded to the longest of what it reads, so jobs had best be sorted by that.
    ``special_tokens``: whether the tokenizer adds its own; a chat template has put them into the
    prefix already. EmokernelError if a job gives nothing acceptable in `_DRAWS` draws.
    """
    given = [seed] * len(jobs) if isinstance(seed, int) else seed
    for start in range(0, len(jobs), batch_size):
        batch, own = jobs[start : start + batch_size], given[start : start + batch_size]
        done: dict[int, Written] = {}
        for draw in range(_DRAWS):
            rows = [row for row in range(len(batch)) if row not in done]
            if not rows:
                break
            chosen = [batch[row] for row in rows]
            seeds = [batch[row].seed(own[row], draw) for row in rows]
            texts = _sample(model, tokenizer, steering, chosen, sampling, special_tokens, seeds)
            for row, (text, cut) in zip(rows, texts, strict=True):
                if accept(text):
                    done[row] = Written(batch[row], own[row], text, draw, cut)
        if len(done) < len(batch):
            raise EmokernelError(f"the model wrote nothing acceptable in {_DRAWS} draws")
        yield [done[row] for row in range(len(batch))]


def _sample(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    steering: Steering,
    batch: Sequence[Job],
    sampling: Sampling,
    special_tokens: bool,
    seeds: Sequence[Sequence[int]],
) -> list[tuple[str, bool]]:
    """(Opening and continuation, whether its length ended it) of each."""
    read = [job.prefix + job.opening for job in batch]
    contexts = tokenizer(read, add_special_tokens=special_tokens)["input_ids"]
    answers = sample(
        model, tokenizer, contexts, sampling, seeds=seeds, steering=steering,
        requests=[job.request for job in batch],
    )  # fmt: skip
    return [
        (
            job.opening + _continuation(tokenizer, context, answer).rstrip(),
            len(answer) == sampling.max_new_tokens,
        )
        for job, context, answer in zip(batch, contexts, answers, strict=True)
    ]


def _continuation(tokenizer: Tokenizer, context: list[int], answer: list[int]) -> str:
    """What ``answer`` adds to the text; decoded alone, it may lose the space it begins with."""
    before = tokenizer.decode(context, skip_special_tokens=True)
    whole = tokenizer.decode(context + answer, skip_special_tokens=True)
    if whole.startswith(before):
        return whole[len(before) :]
    return tokenizer.decode(answer, skip_special_tokens=True)
