"""A model's own answers: sampled in batches, and kept in the store as they come."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import EmokernelError
from emokernel.lab.extract.options import Options
from emokernel.lab.extract.prompts import Conditioning
from emokernel.lab.extract.reading import unfinished
from emokernel.lab.extract.samples import Group
from emokernel.lab.extract.store import Store
from emokernel.lab.measure.encoding import TokenizedText, special_ids
from emokernel.lab.measure.sampling import Sampling, sample


@dataclass(frozen=True)
class Prompt:
    """A query in its context, for an emotion or (None) without one."""

    query: str
    emotion: str | None
    ids: tuple[int, ...]


def prompts_of(
    tokenizer: Tokenizer, queries: Mapping[str, Sequence[str]], conditioning: Conditioning
) -> tuple[list[Prompt], list[Group]]:
    """The prompts for ``queries`` of each emotion, and their groups, paired by query.

    The neutral prompt of a query does not name an emotion: emotions with a query in common share
    it, and its answer. EmokernelError where the two prompts of a pair are the same tokens.
    """
    keys = dict.fromkeys(
        (query, asked_for)
        for emotion, asked in queries.items()
        for asked_for in (emotion, None)
        for query in asked
    )
    numbers = {key: number for number, key in enumerate(keys)}
    prompts = []
    for query, emotion in keys:
        if emotion is None:
            context = conditioning.neutral(query, tokenizer)
        else:
            context = conditioning.emotional(query, emotion, tokenizer)
        ids = tokenizer(context, add_special_tokens=conditioning.adds_special_tokens)["input_ids"]
        prompts.append(Prompt(query, emotion, tuple(ids)))
    groups = [
        Group(
            emotion,
            [numbers[query, emotion] for query in asked],
            [numbers[query, None] for query in asked],
            paired=True,
        )
        for emotion, asked in queries.items()
    ]
    for group in groups:
        for own, other in zip(group.rows, group.neutral, strict=True):
            if prompts[own].ids == prompts[other].ids:
                raise EmokernelError(
                    f"asked with {group.emotion!r} and without, the query {prompts[own].query!r} is"
                    " the same tokens: let the templates say the emotion in words that the"
                    " tokenizer knows"
                )
    return prompts, groups


def answer(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    store: Store,
    sampling: Sampling,
    options: Options,
    *,
    progress: bool,
) -> list[TokenizedText]:
    """The prompts with their answers; those that the store lacks are sampled into it.

    An answer ends before the first end-of-text token; special tokens within are not its own.
    All answers to a query have the same random numbers, so an emotional one differs from a neutral
    one by what was asked for; and an interrupted run goes on to the same answers.
    """
    lengths = [len(prompt.ids) + sampling.max_new_tokens for prompt in prompts]
    known = store.answers()
    pending = unfinished(lengths, range(len(prompts)), known, options, "answering", progress)
    for batch in pending:
        chosen = [prompts[prompt] for prompt in batch]
        contexts = [prompt.ids for prompt in chosen]
        seeds = [(options.seed, zlib.crc32(prompt.query.encode())) for prompt in chosen]
        ids = sample(model, tokenizer, contexts, sampling, seeds=seeds)
        lines = {
            prompt: {
                "prompt": prompt,
                "emotion": prompt_of.emotion,
                "query": prompt_of.query,
                "answer": tokenizer.decode(tokens),
                "tokens": tokens,
            }
            for prompt, prompt_of, tokens in zip(batch, chosen, ids, strict=True)
        }
        store.append(lines.values())
        known |= lines
    special = special_ids(tokenizer)
    return [
        _sample(prompt, known[number]["tokens"], special) for number, prompt in enumerate(prompts)
    ]


def _sample(prompt: Prompt, tokens: Iterable[int], special: np.ndarray) -> TokenizedText:
    tokens = np.array(list(tokens), dtype=np.int32)
    own = np.concatenate([np.zeros(len(prompt.ids), dtype=bool), ~np.isin(tokens, special)])
    return TokenizedText(np.concatenate([np.array(prompt.ids, dtype=np.int32), tokens]), own)


def check_answers(groups: Sequence[Group], samples: Sequence[TokenizedText]) -> dict[str, int]:
    """For each emotion, the pairs in which an answer is empty; EmokernelError if all are."""
    empty = {
        group.emotion: sum(
            not (samples[a].own.any() and samples[b].own.any())
            for a, b in zip(group.rows, group.neutral, strict=True)
        )
        for group in groups
    }
    for group in groups:
        if empty[group.emotion] == len(group.rows):
            raise EmokernelError(
                f"the model answered nothing to any of the {len(group.rows)} queries for"
                f" {group.emotion!r}: try another conditioning, more max_new_tokens, or give texts"
            )
    return empty
